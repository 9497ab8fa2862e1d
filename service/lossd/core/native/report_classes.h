/* Sums and counts by class. */
#ifndef LOSSD_REPORT_CLASSES_H
#define LOSSD_REPORT_CLASSES_H

#include "report_sums.h"

#define FEW_CLASSES 24

/* The same where classes are few, and elements of one class do not lie side by side. */
static void add_to_few_classes(const report *report, plane_sums *sums, int64_t field, int64_t start,
                               const double *values, int count, figures *figures)
{
    double its[BLOCK];
    const int classes = (int)report->classes, first = (int)(start % classes);
    for (int class = 0; class < classes; class++) {
        int n = 0;
        for (int i = (class - first + classes) % classes; i < count; i += classes)
            its[n++] = values[i];
        if (n)
            add_run_at(sums, field + class, its, n, figures);
    }
}

/* Whether a block is some lines of all classes, an element each. */
static int has_lines(const report *report, int64_t start, int count)
{
    return report->class_inner == 1 && start % report->classes == 0 && count % report->classes == 0;
}

/* Cut the numbers of some classes, of which a line has LANES side by side, into exact sums by class.
 *
 * `rest` is what that leaves of each number.
 */
static inline void cut_lanes(const double *values, int count, int classes, int first_level, int levels,
                             double *totals, double *rest, lane_bits *left, lane_bits *large)
{
    lanes sums[CUTS] = {{0}};
    for (int line = 0; line < count; line += classes) {
        lanes value = load_lanes(values + line), part;
        *large |= ~((value < LARGEST) & (value > -LARGEST)); /* NaN, too */
        for (int level = first_level; level < levels; level++) {
            part = (value + CUT[level]) - CUT[level];
            sums[level] += part;
            value -= part;
        }
        *left |= (lane_bits)value;
        memcpy(rest + line, &value, sizeof value);
    }
    for (int level = first_level; level < levels; level++)
        memcpy(totals + level * BLOCK, sums + level, sizeof *sums);
}

/* The same for all classes, which are at least LANES: the last ones are cut twice if need be. */
static int cut_all_lanes(const double *values, int count, int classes, int first_level, int levels,
                         double *totals, double *rest, int *any_left)
{
    lane_bits left = {0}, large = {0};
    for (int class = 0; class < classes; class += LANES) {
        const int first = class + LANES <= classes ? class : classes - LANES;
        cut_lanes(values + first, count, classes, first_level, levels, totals + first, rest + first, &left, &large);
    }
    *any_left = any_lane(left);
    return !any_lane(large);
}

/* Cut lines into exact sums by class; how many cuts were made, or 0 where these are not all there is. */
static int cut_lines(const double *values, int count, int classes, double *totals)
{
    double rest[BLOCK], again[BLOCK];
    int left;
    if (!cut_all_lanes(values, count, classes, 0, 3, totals, rest, &left))
        return 0;
    if (!left)
        return 3;
    cut_all_lanes(rest, count, classes, 3, CUTS, totals, again, &left);
    return left ? 0 : CUTS;
}

/* The same where classes are fewer than LANES. */
static int cut_short_lines(const double *restrict values, int count, int classes, double *restrict totals)
{
    int64_t large = 0;
    double left = 0.0;
    for (int level = 0; level < CUTS; level++)
        memset(totals + level * BLOCK, 0, sizeof *totals * (size_t)classes);
    for (int line = 0; line < count; line += classes)
        for (int class = 0; class < classes; class++) {
            double value = values[line + class];
            large |= !(fabs(value) < LARGEST);
            for (int level = 0; level < CUTS; level++) {
                double part = (value + CUT[level]) - CUT[level];
                totals[level * BLOCK + class] += part;
                value -= part;
            }
            left += fabs(value);
        }
    return large || left != 0.0 ? 0 : CUTS;
}

/* Move the sums of lines to the planes. */
static void settle_lines(figures *figures)
{
    line_sums *lines = &figures->lines;
    for (int level = 0; lines->count && level < CUTS; level++)
        for (int64_t at = 0; at < lines->length; at += BLOCK) {
            int run = lines->length - at < BLOCK ? (int)(lines->length - at) : BLOCK;
            double any = 0.0;
            for (int i = 0; i < run; i++)
                any += fabs(lines->cut[level][at + i]);
            if (any != 0.0)
                add_side_by_side(&figures->arrays, at, lines->cut[level] + at, run, figures);
        }
    if (lines->count)
        memset(lines->cut[0], 0, sizeof(double) * (size_t)(CUTS * lines->length));
    lines->count = 0;
}

/* Have room for a block's lines: as many numbers of a cut as a block has add up exactly. */
static void begin_lines(const report *report, const block *block, figures *figures)
{
    const int count = figures->lines.length ? block->count / (int)report->classes : 0;
    if (figures->lines.count + count > BLOCK)
        settle_lines(figures);
    figures->lines.count += count;
}

/* Add lines to the sums of their classes; 0 if this is not the way to do it. */
static int add_lines(const report *report, plane_sums *sums, int64_t field, const double *values, int count,
                     figures *figures)
{
    double totals[CUTS * BLOCK];
    const int classes = (int)report->classes, later = sums == &figures->arrays;
    if (!later && count <= 4 * classes)
        return 0;
    const int levels = classes < LANES ? cut_short_lines(values, count, classes, totals)
                                       : cut_lines(values, count, classes, totals);
    for (int level = 0; later && level < levels; level++) {
        double *to = figures->lines.cut[level] + field;
        for (int class = 0; class < classes; class++)
            to[class] += totals[level * BLOCK + class];
    }
    for (int level = 0; !later && level < levels; level++)
        add_side_by_side(sums, field, totals + level * BLOCK, classes, figures);
    return levels != 0;
}

/* Add each element to the sum of its place's class. */
static void add_by_place(const report *report, plane_sums *sums, int64_t field, int64_t start, const double *values,
                         int count, figures *figures)
{
    const int64_t inner = report->class_inner, classes = report->classes;
    if (classes == 1) {
        add_run_at(sums, field, values, count, figures);
        return;
    }
    if (has_lines(report, start, count) && add_lines(report, sums, field, values, count, figures))
        return;
    if (inner == 1 && classes < FEW_CLASSES && count > 4 * classes) {
        add_to_few_classes(report, sums, field, start, values, count, figures);
        return;
    }
    int64_t at = start % (inner * classes);
    while (count > 0) {
        int64_t class = at / inner, left = inner == 1 ? classes - class : inner - at % inner;
        int run = left < count ? (int)left : count;
        if (inner == 1)
            add_side_by_side(sums, field + class, values, run, figures);
        else
            add_run_at(sums, field + class, values, run, figures);
        values += run;
        count -= run;
        at = (at + run) % (inner * classes);
    }
}

/* Add some of a block's elements, from one on, to the sums of their classes. */
static void add_by_class(const report *report, const block *block, int from, plane_sums *sums, int64_t field,
                         const double *values, int count, figures *figures)
{
    if (!report->by_target) {
        add_by_place(report, sums, field, block->start + from, values, count, figures);
        return;
    }
    for (int i = 0; i < count; i++)
        add_one(sums, field + (int64_t)block->class_of[from + i], values[i], figures);
}

/* The same of targets, which where they are 0 and 1 are first counted by class. */
static void add_targets_by_class(const report *report, const block *block, int from, plane_sums *sums, int64_t field,
                                 int count, figures *figures)
{
    double totals[BLOCK];
    const int classes = (int)report->classes;
    const double *y = block->y + from;
    const int64_t start = block->start + from;
    int64_t other = report->by_target || !has_lines(report, start, count);
    for (int i = 0; i < count; i++)
        other |= (y[i] != 0.0) & (y[i] != 1.0);
    if (other) {
        add_by_class(report, block, from, sums, field, y, count, figures);
        return;
    }
    double *to = totals;
    if (sums == &figures->arrays)
        to = figures->lines.cut[0] + field;
    else
        memset(totals, 0, sizeof *totals * (size_t)classes);
    for (int line = 0; line < count; line += classes)
        for (int class = 0; class < classes; class++)
            to[class] += y[line + class];
    if (to == totals)
        add_side_by_side(sums, field, totals, classes, figures);
}

static void count_by_class(const report *report, const block *block, int from, int64_t *counts, int count)
{
    const int64_t inner = report->class_inner, classes = report->classes, start = block->start + from;
    const double *kept = block->dropped ? block->kept + from : NULL;
    if (report->by_target) {
        for (int i = 0; i < count; i++)
            counts[(int64_t)block->class_of[from + i]] += is_kept(block, from + i);
        return;
    }
    if (!kept && has_lines(report, start, count)) {
        for (int64_t class = 0; class < classes; class++)
            counts[class] += count / classes;
        return;
    }
    int64_t within = start % inner, class = start / inner % classes;
    for (int i = 0; i < count; i++) {
        counts[class] += !kept || kept[i] != 0.0;
        if (++within == inner) {
            within = 0;
            if (++class == classes)
                class = 0;
        }
    }
}

#endif

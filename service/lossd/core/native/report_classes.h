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

/* Cut lines into exact sums by class, of which `levels` are made; 0 where these are not all there is. */
static int cut_lines(const double *restrict values, int count, int classes, int levels, double (*totals)[BLOCK])
{
    int64_t large = 0;
    double left = 0.0;
    for (int level = 0; level < levels; level++)
        memset(totals[level], 0, sizeof(double) * (size_t)classes);
    for (int line = 0; line < count; line += classes)
        for (int class = 0; class < classes; class++) {
            double value = values[line + class];
            large |= !(fabs(value) < LARGEST);
            for (int level = 0; level < levels; level++) {
                double part = (value + CUT[level]) - CUT[level];
                totals[level][class] += part;
                value -= part;
            }
            left += fabs(value);
        }
    return !large && left == 0.0;
}

/* Add lines to the sums of their classes; 0 if this is not the way to do it. */
static int add_lines(const report *report, plane_sums *sums, int64_t field, const double *values, int count,
                     figures *figures)
{
    double totals[CUTS][BLOCK];
    const int classes = (int)report->classes;
    int levels = 3;
    if (!cut_lines(values, count, classes, 3, totals)) {
        levels = CUTS;
        if (!cut_lines(values, count, classes, CUTS, totals))
            return 0;
    }
    for (int level = 0; level < levels; level++)
        add_side_by_side(sums, field, totals[level], classes, figures);
    return 1;
}

/* Add each element to its class's sum. */
static void add_by_class(const report *report, plane_sums *sums, int64_t field, int64_t start, const double *values,
                         int count, figures *figures)
{
    const int64_t inner = report->class_inner, classes = report->classes;
    if (classes == 1) {
        add_run_at(sums, field, values, count, figures);
        return;
    }
    if (has_lines(report, start, count) && count > 4 * classes &&
        add_lines(report, sums, field, values, count, figures))
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

/* The same for targets of 0 and 1, which are first counted by class. */
static void add_targets_by_class(const report *report, plane_sums *sums, int64_t field, int64_t start,
                                 const double *y, int count, figures *figures)
{
    double totals[BLOCK] = {0.0};
    const int classes = (int)report->classes;
    int64_t other = !has_lines(report, start, count);
    for (int i = 0; i < count; i++)
        other |= (y[i] != 0.0) & (y[i] != 1.0);
    if (other) {
        add_by_class(report, sums, field, start, y, count, figures);
        return;
    }
    for (int line = 0; line < count; line += classes)
        for (int class = 0; class < classes; class++)
            totals[class] += y[line + class];
    add_side_by_side(sums, field, totals, classes, figures);
}

static void count_by_class(const report *report, int64_t *counts, int64_t start, const double *kept, int count)
{
    const int64_t inner = report->class_inner, classes = report->classes;
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

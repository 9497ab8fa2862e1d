/* Losses compared with those of a baseline, element by element. */
#ifndef LOSSD_REPORT_PAIRS_H
#define LOSSD_REPORT_PAIRS_H

#include "report_classes.h"
#include "report_lists.h"

static int pair_of(double difference)
{
    return difference < 0.0 ? BETTER : difference > 0.0 ? WORSE : difference == 0.0 ? EQUAL : UNDEFINED;
}

/* Count better, worse, equal and undefined ones; of those that are kept, if some are not. */
static void count_pairs(const double *restrict difference, const double *restrict kept, int count, int64_t *found)
{
    int64_t better = 0, worse = 0, equal = 0, all = count;
    if (kept) {
        all = 0;
        for (int i = 0; i < count; i++) {
            const int64_t one = kept[i] != 0.0;
            better += one & (difference[i] < 0.0);
            worse += one & (difference[i] > 0.0);
            equal += one & (difference[i] == 0.0);
            all += one;
        }
    } else {
        for (int i = 0; i < count; i++) {
            better += difference[i] < 0.0;
            worse += difference[i] > 0.0;
            equal += difference[i] == 0.0;
        }
    }
    found[BETTER] += better;
    found[WORSE] += worse;
    found[EQUAL] += equal;
    found[UNDEFINED] += all - better - worse - equal;
}

/* The same by class, for lines of all classes. */
static void count_pairs_of_lines(const double *restrict difference, int count, int classes, int64_t *restrict found)
{
    int64_t better[BLOCK], worse[BLOCK], equal[BLOCK];
    const int lines = count / classes;
    for (int first = 0; first < classes; first += LANES) {
        const int width = classes - first < LANES ? classes - first : LANES;
        int64_t its[3][LANES] = {{0}};
        for (int line = first; line < count; line += classes)
            for (int i = 0; i < width; i++) {
                its[BETTER][i] += difference[line + i] < 0.0;
                its[WORSE][i] += difference[line + i] > 0.0;
                its[EQUAL][i] += difference[line + i] == 0.0;
            }
        memcpy(better + first, its[BETTER], sizeof *better * (size_t)width);
        memcpy(worse + first, its[WORSE], sizeof *worse * (size_t)width);
        memcpy(equal + first, its[EQUAL], sizeof *equal * (size_t)width);
    }
    for (int class = 0; class < classes; class++) {
        found[BETTER * classes + class] += better[class];
        found[WORSE * classes + class] += worse[class];
        found[EQUAL * classes + class] += equal[class];
        found[UNDEFINED * classes + class] += lines - better[class] - worse[class] - equal[class];
    }
}

/* The same by class. */
static void count_pairs_by_class(const report *report, const block *block, const double *difference, int64_t *found)
{
    const int64_t inner = report->class_inner, classes = report->classes;
    const int count = block->count;
    for (int i = 0; report->by_target && i < count; i++)
        found[pair_of(difference[i]) * classes + (int64_t)block->class_of[i]] += is_kept(block, i);
    if (report->by_target)
        return;
    if (!block->dropped && has_lines(report, block->start, count)) {
        count_pairs_of_lines(difference, count, (int)classes, found);
        return;
    }
    for (int i = 0; i < count;) {
        const int64_t place = block->start + i, class = place / inner % classes, left = inner - place % inner;
        const int run = left < count - i ? (int)left : count - i;
        int64_t its[PAIRS] = {0};
        count_pairs(difference + i, block->dropped ? block->kept + i : NULL, run, its);
        for (int pair = 0; pair < PAIRS; pair++)
            found[pair * classes + class] += its[pair];
        i += run;
    }
}

/* Sums and counts of pairs of elements; the baseline's sum is that of the rows' sums. */
static void add_pairs(const report *report, const char *base, const block *block, const double *baseline,
                      const double *baseline_x, figures *figures)
{
    double difference[BLOCK], squares[BLOCK];
    const int count = block->count;
    const int64_t arrays = report->single_sums;
    for (int i = 0; i < count; i++) {
        difference[i] = block->loss[i] - baseline[i];
        squares[i] = difference[i] * difference[i];
    }
    count_pairs(difference, block->dropped ? block->kept : NULL, count,
                figures->counts + report->at.pair_elements);
    if (report->classes) {
        add_by_class(report, block, 0, &figures->arrays, report->at.class_baseline - arrays, baseline, count, figures);
        add_by_class(report, block, 0, &figures->arrays, report->at.class_pair_squares - arrays, squares, count,
                     figures);
        count_pairs_by_class(report, block, difference, figures->counts + report->at.class_pairs);
    }
    if (report->top) {
        list_elements(report, base, block, baseline, baseline_x, difference, 1.0, figures->lists + WORSE_ELEMENTS);
        list_elements(report, base, block, baseline, baseline_x, difference, -1.0, figures->lists + BETTER_ELEMENTS);
    }
    add_padded(single(figures, report->at.pair_squares), squares, count);
}

#endif

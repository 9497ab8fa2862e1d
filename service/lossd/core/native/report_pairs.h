/* Losses compared with those of a baseline, element by element. */
#ifndef LOSSD_REPORT_PAIRS_H
#define LOSSD_REPORT_PAIRS_H

#include "report_classes.h"
#include "report_lists.h"

static int pair_of(double difference)
{
    return difference < 0.0 ? BETTER : difference > 0.0 ? WORSE : difference == 0.0 ? EQUAL : UNDEFINED;
}

static void add_pairs(const report *report, const char *base, const block *block, const double *baseline,
                      const double *baseline_x, figures *figures)
{
    double difference[BLOCK], squares[BLOCK], copy[BLOCK];
    const int count = block->count;
    const int64_t arrays = report->single_sums;
    for (int i = 0; i < count; i++) {
        difference[i] = block->loss[i] - baseline[i];
        squares[i] = difference[i] * difference[i];
        copy[i] = baseline[i];
    }
    for (int i = 0; i < count; i++)
        if (is_kept(block, i))
            figures->counts[report->at.pair_elements + pair_of(difference[i])]++;
    add_padded(single(figures, report->at.baseline), copy, count);
    add_padded(single(figures, report->at.pair_squares), squares, count);
    if (report->classes) {
        add_by_class(report, &figures->arrays, report->at.class_baseline - arrays, block->start, baseline, count,
                     figures);
        add_by_class(report, &figures->arrays, report->at.class_pair_squares - arrays, block->start, squares, count,
                     figures);
        for (int i = 0; i < count; i++)
            if (is_kept(block, i)) {
                int64_t class = (block->start + i) / report->class_inner % report->classes;
                figures->counts[report->at.class_pairs + pair_of(difference[i]) * report->classes + class]++;
            }
    }
    if (report->top) {
        list_elements(report, base, block, baseline, baseline_x, difference, 1.0, figures->lists + WORSE_ELEMENTS);
        list_elements(report, base, block, baseline, baseline_x, difference, -1.0, figures->lists + BETTER_ELEMENTS);
    }
}

#endif

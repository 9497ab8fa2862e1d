/* The figures of a report over a part of a request: sums, counts and lists beside the loss's own sums.
 *
 * Each reducer is one function over a block of elements or of rows, and runs only where its section is asked
 * for. A row is an index of the request's first axis; a part holds whole rows. All sums are exact
 * (exact_sum.h), so neither blocks nor threads matter. lossd.core.report.definition has the same in Python,
 * lossd.core.report.layout says which figure has which index.
 */
#ifndef LOSSD_REPORT_H
#define LOSSD_REPORT_H

#include "report_calibration.h"
#include "report_classes.h"
#include "report_confidence.h"
#include "report_histogram.h"
#include "report_memory.h"
#include "report_pairs.h"
#include "report_rows.h"
#include "report_sweep.h"

static void add_classes(const report *report, const block *block, figures *figures)
{
    const int count = block->count;
    plane_sums *sums = &figures->arrays;
    const int64_t base = report->single_sums;
    add_by_class(report, block, 0, sums, report->at.class_sum - base, block->loss, count, figures);
    add_targets_by_class(report, block, 0, sums, report->at.class_positives - base, count, figures);
    if (report->weighted)
        add_by_class(report, block, 0, sums, report->at.class_weight - base, block->weight, count, figures);
    count_by_class(report, block, 0, figures->counts + report->at.class_count, count);
}

/* All reducers, over a block that has been scored. */
static void add_figures(const job *job, const report *report, const char *base, block *block, const double *baseline,
                        const double *baseline_x, wide_sum *total, figures *figures)
{
    const int count = block->count;
    begin_lines(report, block, figures);
    if (report->row_size <= BLOCK)
        sum_whole_rows(report, base, block, baseline, total, figures);
    else
        sum_piece(report, base, block, baseline, total, figures);
    count_unusual(block->loss, count, figures->counts + report->at.nan, figures->counts + report->at.infinite);
    if (report->at.element_squares >= 0 && report->row_size > 1)
        add_dot(single(figures, report->at.element_squares), block->loss, block->loss, count);
    if (report->classes)
        add_classes(report, block, figures);
    if (report->at.histogram_elements >= 0)
        add_histogram(report, block, figures);
    if (report->top)
        list_elements(report, base, block, NULL, NULL, block->loss, 1.0, figures->lists + TOP_ELEMENTS);
    if (report->at.bin_count >= 0 && report->by_target)
        add_confidence(job, report, base, block, figures);
    else if (report->at.bin_count >= 0)
        add_calibration(job, report, block, figures);
    if (report->at.sweep >= 0) {
        if (job->formula.loss == LOSSD_FOCAL && job->formula.variant == LOSSD_EXP)
            add_exp_sweep(job, report, block, figures);
        else
            add_sweep(job, report, block, figures);
    }
    if (baseline)
        add_pairs(report, base, block, baseline, baseline_x, figures);
}

#endif

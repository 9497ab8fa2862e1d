/* Figures that follow from the sums of whole rows. */
#ifndef LOSSD_REPORT_ROWS_H
#define LOSSD_REPORT_ROWS_H

#include "report_classes.h"
#include "report_groups.h"
#include "report_histogram.h"
#include "report_pairs.h"

/* Add a run of elements of one row to its group. */
static void add_to_group(const report *report, const block *block, const double *baseline, int from, int count,
                         int64_t group, figures *figures)
{
    plane_sums *sums = figures->groups.sums + group;
    int64_t *counts = figures->groups.counts + group * report->group_counts;
    double squares[BLOCK];
    const group_indices *at = &report->group_at;
    add_run_at(sums, at->sum, block->loss + from, count, figures);
    add_run_at(sums, at->positives, block->y + from, count, figures);
    if (report->weighted)
        add_run_at(sums, at->weight, block->weight + from, count, figures);
    if (at->element_squares >= 0) {
        for (int i = 0; i < count; i++)
            squares[i] = block->loss[from + i] * block->loss[from + i];
        add_run_at(sums, at->element_squares, squares, count, figures);
    }
    for (int i = 0; i < count; i++)
        counts[at->count] += is_kept(block, from + i);
    count_unusual(block->loss + from, count, counts + at->nan, counts + at->infinite);
    if (report->classes) {
        add_by_class(report, block, from, sums, at->class_sum, block->loss + from, count, figures);
        add_by_class(report, block, from, sums, at->class_positives, block->y + from, count, figures);
        if (report->weighted)
            add_by_class(report, block, from, sums, at->class_weight, block->weight + from, count, figures);
        count_by_class(report, block, from, counts + at->class_count, count);
    }
    if (!baseline)
        return;
    add_run_at(sums, at->baseline, baseline + from, count, figures);
    double difference[BLOCK];
    for (int i = 0; i < count; i++) {
        difference[i] = block->loss[from + i] - baseline[from + i];
        squares[i] = difference[i] * difference[i];
    }
    count_pairs(difference, block->dropped ? block->kept + from : NULL, count, counts + at->pair_elements);
    add_run_at(sums, at->pair_squares, squares, count, figures);
}

/* Add what follows from a whole row to its group. */
static void add_row_to_group(const report *report, const ended_rows *rows, int at_row, int64_t group, figures *figures)
{
    plane_sums *sums = figures->groups.sums + group;
    int64_t *counts = figures->groups.counts + group * report->group_counts;
    const group_indices *at = &report->group_at;
    const double sum = rows->sum[at_row], share = rows->share[at_row];
    counts[at->rows]++;
    if (!rows->kept[at_row]) {
        counts[at->rows_dropped]++;
        return;
    }
    add_one(sums, at->row_squares, sum * sum, figures);
    add_one(sums, at->row_products, sum * share, figures);
    add_one(sums, at->divisor_squares, share * share, figures);
    if (!report->paired)
        return;
    const double baseline = rows->baseline_sum[at_row], difference = sum - baseline;
    add_one(sums, at->pair_row_squares, difference * difference, figures);
    add_one(sums, at->pair_row_products, difference * share, figures);
    add_one(sums, at->baseline_row_squares, baseline * baseline, figures);
    add_one(sums, at->baseline_row_products, difference * baseline, figures);
    counts[at->pair_rows + pair_of(rows->loss[at_row] - rows->baseline_loss[at_row])]++;
}

/* Take out rows of which nothing is kept; how many those are. */
static int drop_empty_rows(ended_rows *rows)
{
    int count = 0, empty = 0;
    for (int i = 0; i < rows->count; i++)
        empty += !rows->kept[i];
    for (int i = 0; empty && i < rows->count; i++) {
        if (!rows->kept[i])
            continue;
        rows->row[count] = rows->row[i];
        rows->sum[count] = rows->sum[i];
        rows->share[count] = rows->share[i];
        rows->loss[count] = rows->loss[i];
        rows->baseline_sum[count] = rows->baseline_sum[i];
        rows->baseline_loss[count++] = rows->baseline_loss[i];
    }
    rows->count -= empty;
    return empty;
}

/* The sums of products of the rows' sums, those of the baseline, their differences and shares. */
static void add_row_pairs(const report *report, const ended_rows *rows, figures *figures)
{
    double difference[BLOCK];
    const double *baseline = rows->baseline_sum;
    const int count = rows->count;
    for (int i = 0; i < count; i++)
        difference[i] = rows->sum[i] - baseline[i];
    add_dot(single(figures, report->at.pair_row_squares), difference, difference, count);
    add_dot(single(figures, report->at.pair_row_products), difference, rows->share, count);
    add_dot(single(figures, report->at.baseline_row_squares), baseline, baseline, count);
    add_dot(single(figures, report->at.baseline_row_products), difference, baseline, count);
}

static void pair_rows(const report *report, const char *base, const ended_rows *rows, figures *figures)
{
    add_row_pairs(report, rows, figures);
    for (int i = 0; i < rows->count; i++) {
        const double loss = rows->loss[i], baseline = rows->baseline_loss[i], difference = loss - baseline;
        figures->counts[report->at.pair_rows + pair_of(difference)]++;
        if (report->top && difference > 0.0)
            list_row(report, base, difference, loss, baseline, rows->row[i], figures->lists + WORSE_ROWS);
        if (report->top && difference < 0.0)
            list_row(report, base, -difference, loss, baseline, rows->row[i], figures->lists + BETTER_ROWS);
    }
}

/* Whether a row is one element and its share of the divisor 1: products and squares follow from the others. */
static int counts_rows(const report *report)
{
    return report->row_size == 1 && report->share == DIVISOR_COUNT;
}

/* The reducers over the rows that end in a block. */
static void add_rows(const report *report, const char *base, ended_rows *rows, figures *figures)
{
    double values[BLOCK + LANES];
    const int single_elements = report->row_size == 1 && report->at.element_squares >= 0;
    figures->counts[report->at.rows_dropped] += drop_empty_rows(rows);
    const int count = rows->count;
    for (int i = 0; i < count; i++)
        values[i] = rows->sum[i] * rows->sum[i];
    add_to_both(single(figures, report->at.row_squares),
                single_elements ? single(figures, report->at.element_squares) : NULL, values, count);
    figures->kept_rows += count;
    for (int i = 0; !counts_rows(report) && i < count; i++)
        values[i] = rows->sum[i] * rows->share[i];
    if (!counts_rows(report))
        add_padded(single(figures, report->at.row_products), values, count);
    for (int i = 0; !counts_rows(report) && i < count; i++)
        values[i] = rows->share[i] * rows->share[i];
    if (!counts_rows(report))
        add_plain(single(figures, report->at.divisor_squares), values, count);
    for (int i = 0; report->at.histogram_rows >= 0 && i < count; i++)
        add_count(figures, report->at.histogram_rows + histogram_bin(rows->loss[i]), 1);
    double least = report->top ? least_key(report, figures->lists + TOP_ROWS) : 0.0;
    if (report->top && any_key(rows->loss, count, least, 1))
        for (int i = 0; i < count; i++)
            list_row(report, base, rows->loss[i], rows->loss[i], 0.0, rows->row[i], figures->lists + TOP_ROWS);
    if (report->paired)
        pair_rows(report, base, rows, figures);
}

static int64_t kept_of(const block *block, int from, int count)
{
    if (!block->dropped)
        return count;
    double kept = 0.0;
    for (int i = 0; i < count; i++)
        kept += block->kept[from + i];
    return (int64_t)kept;
}

/* Note a row that has ended. */
static void end_row(const report *report, int64_t row, int64_t kept, double sum, double share, double baseline,
                    ended_rows *rows)
{
    const int at = rows->count++;
    const double divisor = report->row_mean && kept ? (double)kept : 1.0;
    rows->row[at] = row;
    rows->kept[at] = kept;
    rows->sum[at] = sum;
    rows->share[at] = report->share == DIVISOR_COUNT ? (double)kept : report->share == DIVISOR_NONE ? 1.0 : share;
    rows->loss[at] = sum / divisor;
    rows->baseline_sum[at] = baseline;
    rows->baseline_loss[at] = baseline / divisor;
}

/* What each row of a block adds to the divisor. */
static void row_shares(const report *report, const block *block, int rows, int size, ended_rows *to)
{
    for (int i = 0; i < rows; i++)
        to->kept[i] = block->dropped ? kept_of(block, i * size, size) : size;
    if (report->share == DIVISOR_WEIGHT || report->share == DIVISOR_POSITIVES)
        row_sums(report->share == DIVISOR_WEIGHT ? block->weight : block->y, rows, size, to->share, NULL);
    else
        for (int i = 0; i < rows; i++)
            to->share[i] = report->share == DIVISOR_COUNT ? (double)to->kept[i] : 1.0;
}

/* The losses of rows: their sums, or means. */
static void row_losses(const report *report, const double *sums, const ended_rows *rows, double *losses)
{
    if (!report->row_mean) {
        memcpy(losses, sums, sizeof *losses * (size_t)rows->count);
        return;
    }
    for (int i = 0; i < rows->count; i++)
        losses[i] = rows->kept[i] ? sums[i] / (double)rows->kept[i] : sums[i];
}

/* Reduce a block of whole rows. */
static void sum_whole_rows(const report *report, const char *base, const block *block, const double *baseline,
                           wide_sum *total, figures *figures)
{
    ended_rows rows;
    const int size = (int)report->row_size;
    rows.count = block->count / size;
    row_sums(block->loss, rows.count, size, rows.sum, total);
    if (baseline)
        row_sums(baseline, rows.count, size, rows.baseline_sum, single(figures, report->at.baseline));
    row_shares(report, block, rows.count, size, &rows);
    const int64_t first = block->start / size;
    for (int i = 0; i < rows.count; i++)
        rows.row[i] = first + i;
    row_losses(report, rows.sum, &rows, rows.loss);
    if (baseline)
        row_losses(report, rows.baseline_sum, &rows, rows.baseline_loss);
    for (int i = 0; report->group_sums && i < rows.count; i++) {
        int64_t group = group_of_row(report, base, rows.row[i], figures);
        if (group < 0)
            return;
        add_to_group(report, block, baseline, i * size, size, group, figures);
        add_row_to_group(report, &rows, i, group, figures);
    }
    add_rows(report, base, &rows, figures);
}

/* Reduce a block that is a long row, or a piece of one. */
static void sum_piece(const report *report, const char *base, const block *block, const double *baseline,
                      wide_sum *total, figures *figures)
{
    ended_rows rows;
    open_row *open = &figures->open;
    const int64_t row = block->start / report->row_size, within = block->start % report->row_size;
    const int count = block->count;
    const double *shares = report->share == DIVISOR_WEIGHT      ? block->weight
                           : report->share == DIVISOR_POSITIVES ? block->y
                                                                : NULL;
    terms terms;
    if (within == 0)
        memset(open, 0, sizeof *open);
    open->kept += kept_of(block, 0, count);
    terms_of(block->loss, count, &terms);
    add_terms(total, &terms);
    add_terms(&open->loss, &terms);
    if (shares) {
        terms_of(shares, count, &terms);
        add_terms(&open->share, &terms);
    }
    if (baseline) {
        terms_of(baseline, count, &terms);
        add_terms(single(figures, report->at.baseline), &terms);
        add_terms(&open->baseline, &terms);
    }
    const int64_t group = report->group_sums ? group_of_row(report, base, row, figures) : -1;
    if (group >= 0)
        add_to_group(report, block, baseline, 0, count, group, figures);
    if (within + count < report->row_size)
        return;
    rows.count = 0;
    end_row(report, row, open->kept, rounded_sum(&open->loss), rounded_sum(&open->share), rounded_sum(&open->baseline),
            &rows);
    if (group >= 0)
        add_row_to_group(report, &rows, 0, group, figures);
    add_rows(report, base, &rows, figures);
}

#endif

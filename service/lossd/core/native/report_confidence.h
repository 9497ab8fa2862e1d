/* How often rows of classes are right at each confidence, and how often each class is met at each probability. */
#ifndef LOSSD_REPORT_CONFIDENCE_H
#define LOSSD_REPORT_CONFIDENCE_H

#include "report_calibration.h"
#include "runs.h"

/* What is known of the rows of a run before their probabilities. */
typedef struct {
    softmax_scale scale[BLOCK];
    char undefined[BLOCK], soft[BLOCK]; /* a number is NaN; a target is neither 0 nor 1 */
} known_rows;

/* The numbers of rows that are computed with together. */
typedef struct {
    double p[BLOCK], squares[BLOCK + LANES], rest[BLOCK];
    int64_t cells[BLOCK], high[BLOCK], low[BLOCK];
} confidence_numbers;

static int next_piece(const rows *rows, int64_t from)
{
    const int64_t left = rows->count * rows->size - from;
    return left < BLOCK ? (int)left : BLOCK;
}

/* Find what is known of a run of rows; 0: a value was refused. */
static int know_rows(rows *rows, known_rows *known)
{
    if (!lossd_softmax_scales(rows, known->scale))
        return 0;
    for (int row = 0; row < rows->count; row++) {
        known->undefined[row] = isnan(known->scale[row].others) != 0;
        known->soft[row] = 0;
    }
    for (int64_t from = 0; !rows->ids && from < rows->count * rows->size; from += BLOCK) {
        const int n = next_piece(rows, from);
        if (!read_rows(rows, from, n))
            return 0;
        for (int i = 0; i < n; i++) {
            const int row = (int)((from + i) / rows->size);
            known->undefined[row] |= isnan(rows->y[i]) != 0;
            known->soft[row] |= (rows->y[i] != 0.0) & (rows->y[i] != 1.0);
        }
    }
    return 1;
}

/* Add a score and its target to a cell. */
static void add_to_cell(const report *report, int64_t at, double y, int64_t high, int64_t low, double rest,
                        figures *figures)
{
    cell *cell = figures->cells + at;
    cell->counts += (int64_t)1 << 32 | (y == 1.0);
    cell->high += high;
    cell->low += low;
    if (rest != 0.0)
        add_one(&figures->arrays, report->at.bin_probability - report->single_sums + at, rest, figures);
    if (y != 0.0 && y != 1.0)
        add_one(&figures->arrays, report->at.bin_positives - report->single_sums + at, y, figures);
}

static int64_t bin_of(const report *report, double p)
{
    const int64_t bin = (int64_t)(p * (double)report->bins);
    return bin < report->bins ? bin : report->bins - 1;
}

/* Have room in the cells for so many numbers more. */
static void make_room_in_cells(const report *report, int count, figures *figures)
{
    figures->cell_adds += count;
    if (figures->cell_adds > MOST_CELL_ADDS)
        settle_calibration(report, figures);
}

/* Add the probabilities of n numbers of rows, which have been read. */
static void add_probabilities(const report *report, const rows *rows, const known_rows *known, int64_t from, int n,
                              confidence_numbers *at, figures *figures)
{
    const int64_t size = rows->size;
    const int by_class = report->calibration_classes > 1; /* else there are too many, and the top class's is all */
    int64_t row = from / size, class = from % size;
    lossd_softmax_probabilities(rows, known->scale, from, n, rows->x, at->p);
    split_probabilities(at->p, n, at->high, at->low, at->rest);
    for (int i = 0; i < n; i++) {
        const double y = rows->ids ? rows->ids[row] == (double)class : rows->y[i], miss = at->p[i] - y;
        at->squares[i] = known->undefined[row] ? 0.0 : miss * miss;
        if (by_class && !known->undefined[row])
            add_to_cell(report, class * report->bins + bin_of(report, at->p[i]), y, at->high[i], at->low[i],
                        at->rest[i], figures);
        if (++class == size) {
            class = 0;
            row++;
        }
    }
    add_padded(single(figures, report->at.brier), at->squares, n);
    make_room_in_cells(report, n, figures);
}

/* Add what each row of a run predicts, its first being at a place of the block: the top class. */
static void add_confidences(const report *report, const block *block, int from, const rows *rows,
                            const known_rows *known, confidence_numbers *at, figures *figures)
{
    const int64_t top = (report->calibration_classes - 1) * report->bins;
    const double *p = block->confidence + from;
    split_probabilities(p, rows->count, at->high, at->low, at->rest);
    for (int row = 0; row < rows->count; row++) {
        figures->counts[report->at.undefined] += known->undefined[row];
        figures->counts[report->at.soft] += known->soft[row] & !known->undefined[row];
        if (!known->undefined[row])
            add_to_cell(report, top + bin_of(report, p[row]), block->correct[from + row], at->high[row], at->low[row],
                        at->rest[row], figures);
    }
    make_room_in_cells(report, rows->count, figures);
}

/* Add the cross entropies of a run of rows without weights and smoothing; 0: a value was refused. */
static int add_plain_costs(const report *report, rows *rows, const known_rows *known, figures *figures)
{
    double loss[BLOCK + LANES], targets[BLOCK], weight[BLOCK];
    const formula plain = {.loss = LOSSD_NUMBER_cross_entropy};
    const row_results to = {loss, targets, weight, NULL, NULL, NULL, NULL};
    job job = *rows->job;
    job.class_weight.axes = 0;
    rows->job = &job;
    if (!lossd_cross_entropy(&plain, rows, &to))
        return 0;
    for (int row = 0; row < rows->count; row++)
        if (known->undefined[row])
            loss[row] = 0.0;
    add_padded(single(figures, report->at.cross_entropy), loss, rows->count);
    return 1;
}

/* The calibration of a block of rows of classes. Their values have been checked, so that none is refused here. */
static void add_confidence(const job *job, const report *report, const char *base, const block *block,
                           figures *figures)
{
    row_memory memory;
    known_rows known;
    confidence_numbers at;
    fault none = {0};
    rows rows = open_rows(job, base, &job->inputs, &memory, &none);
    for (int i = next_rows(block, 0, &rows); i < block->count; i = next_rows(block, i + rows.count, &rows)) {
        if (!know_rows(&rows, &known))
            return;
        add_confidences(report, block, i, &rows, &known, &at, figures);
        for (int64_t from = 0; from < rows.count * rows.size; from += BLOCK) {
            const int n = next_piece(&rows, from);
            if (!read_rows(&rows, from, n))
                return;
            add_probabilities(report, &rows, &known, from, n, &at, figures);
        }
        if (!is_cross_entropy(job) && !add_plain_costs(report, &rows, &known, figures))
            return;
        rows.job = job;
    }
}

#endif

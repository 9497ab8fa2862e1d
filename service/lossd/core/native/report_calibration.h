/* How often a class is met at each score. */
#ifndef LOSSD_REPORT_CALIBRATION_H
#define LOSSD_REPORT_CALIBRATION_H

#include "losses.h"
#include "report_sums.h"

/* sigmoid(x) */
LOSSD_INLINE double probability_of(double x)
{
    double small = lossd_logit(0, 0, 0, x).small.hi;
    return (x >= 0.0 ? 1.0 : small) / (1.0 + small);
}

#define MOST_CELL_ADDS (1 << 20) /* 42 bits each, which 63 have room for */

/* Move the whole numbers of the calibration's cells to its sums, before they have no room for more. */
static void settle_calibration(const report *report, figures *figures)
{
    const int64_t sums = report->at.bin_probability - report->single_sums;
    figures->cell_adds = 0;
    for (int64_t i = 0; !report->exact && i < report->calibration_cells; i++) {
        cell *cell = figures->cells + i;
        for (int half = 0; half < 2; half++) {
            int64_t *whole = half ? &cell->low : &cell->high, low = *whole & 0x7fffffff;
            double unit = half ? 0x1p-84 : 0x1p-42;
            add_one(&figures->arrays, sums + i, (double)(*whole - low) * unit, figures);
            add_one(&figures->arrays, sums + i, (double)low * unit, figures);
            *whole = 0;
        }
    }
}

/* Numbers in [0, 1] as whole numbers of 2^-42 and 2^-84; what that leaves of tiny ones. */
static void split_probabilities(const double *restrict p, int n, int64_t *restrict high, int64_t *restrict low,
                                double *restrict rest)
{
    const double to_integer = LOSSD_TO_INTEGER;
    for (int i = 0; i < n; i++) {
        double scaled = p[i] * 0x1p42, shifted = scaled + to_integer, left = (scaled - (shifted - to_integer)) * 0x1p42;
        double again = left + to_integer;
        high[i] = (int64_t)(double_to_bits(shifted) - double_to_bits(to_integer));
        low[i] = (int64_t)(double_to_bits(again) - double_to_bits(to_integer));
        rest[i] = (left - (again - to_integer)) * 0x1p-84;
    }
}

static int value_of_16_bits(const job *job, double x)
{
    if (x == 0.0)
        return 0;
    if (job->inputs.dtype == BFLOAT16) {
        float narrow = (float)x;
        uint32_t bits;
        memcpy(&bits, &narrow, sizeof bits);
        return (int)(bits >> 16);
    }
    uint64_t bits = double_to_bits(x);
    int sign = (int)(bits >> 63) << 15;
    double size = fabs(x) * 0x1p-1008; /* the other way round in from_float16 */
    return sign | (isinf(x) ? 0x7c00 : (int)(double_to_bits(size) >> 42));
}

/* Whether the loss itself is the cross entropy that the calibration sums, and no element is left out of it. */
static int is_cross_entropy(const job *job)
{
    const formula *how = &job->formula;
    return (how->loss == LOSSD_BCE || how->loss == LOSSD_NUMBER_cross_entropy) && !job->weight.axes &&
           !job->pos_weight.axes && !job->class_weight.axes && how->smoothing == 0.0 && !job->allow_nan;
}

/* The probabilities of a block, and its cross entropies without weights, pos_weight and smoothing. */
static void score_plainly(const job *job, const block *block, double *p, double *losses)
{
    const int count = block->count, probabilities = job->formula.probabilities;
    const double *x = block->x, *y = block->y;
    const formula plain = {.loss = LOSSD_BCE, .probabilities = probabilities};
    if (!probabilities && !is_cross_entropy(job) && lossd_all_hard(count, x, y)) {
        for (int i = 0; i < count; i++) { /* both from one exp */
            lossd_input input = lossd_logit(0, 0, 1, x[i]);
            losses[i] = lossd_hard_cross_entropy(0, input, y[i]);
            p[i] = (x[i] >= 0.0 ? 1.0 : input.small.hi) / (1.0 + input.small.hi);
        }
        return;
    }
    if (probabilities)
        memcpy(p, x, sizeof *p * (size_t)count);
    for (int i = 0; !probabilities && i < count; i++)
        p[i] = probability_of(x[i]);
    if (!is_cross_entropy(job))
        lossd_elements(&plain, count, x, y, NULL, NULL, losses);
}

/* The cell of each element. */
static void cells_of(const job *job, const report *report, const block *block, const double *p, int64_t *cells)
{
    const int64_t inner = report->calibration_inner, classes = report->calibration_classes, bins = report->bins;
    int64_t within = block->start % inner, class = block->start / inner % classes;
    for (int i = 0; report->exact && i < block->count; i++)
        cells[i] = isnan(block->x[i]) ? 0 : value_of_16_bits(job, block->x[i]);
    if (report->exact)
        return;
    for (int i = 0; i < block->count; i++) {
        int64_t bin = (int64_t)(p[i] * (double)bins);
        cells[i] = bin < bins ? bin : bins - 1;
    }
    if (inner == 1 && within == 0 && class == 0 && block->count % classes == 0) {
        for (int line = 0; line < block->count; line += (int)classes)
            for (int i = 0; i < classes; i++)
                cells[line + i] += i * bins;
        return;
    }
    for (int i = 0; i < block->count; i++) {
        cells[i] += class * bins;
        if (++within == inner) {
            within = 0;
            if (++class == classes)
                class = 0;
        }
    }
}

/* Whether each element of a block counts in the calibration, and its target is 0 or 1. */
static int is_plain_block(const job *job, const block *block)
{
    int64_t other = job->allow_nan | block->dropped;
    for (int i = 0; i < block->count; i++)
        other |= (block->y[i] != 0.0) & (block->y[i] != 1.0);
    return !other;
}

/* Take out of a block what does not count in the calibration: its cell is then -1. */
static void leave_out(const report *report, const block *block, int64_t *cells, double *squares, double *losses,
                      figures *figures)
{
    for (int i = 0; i < block->count; i++) {
        const double y = block->y[i];
        if (is_kept(block, i) && !isnan(block->x[i]) && !isnan(y)) {
            if (y == 0.0 || y == 1.0)
                continue;
            figures->counts[report->at.soft]++;
            add_one(&figures->arrays, report->at.bin_positives - report->single_sums + cells[i], y, figures);
            continue;
        }
        figures->counts[report->at.undefined] += is_kept(block, i);
        cells[i] = -1;
        squares[i] = losses[i] = 0.0;
    }
}

static void add_calibration(const job *job, const report *report, const block *block, figures *figures)
{
    double p[BLOCK], squares[BLOCK], losses[BLOCK], rest[BLOCK];
    int64_t cells[BLOCK], high[BLOCK], low[BLOCK], ones[BLOCK];
    const int count = block->count;
    score_plainly(job, block, p, losses);
    for (int i = 0; i < count; i++) {
        double t = p[i] - block->y[i];
        squares[i] = t * t;
    }
    cells_of(job, report, block, p, cells);
    split_probabilities(p, count, high, low, rest);
    const int plain = is_plain_block(job, block);
    if (!plain)
        leave_out(report, block, cells, squares, losses, figures);
    int64_t tiny = 0;
    for (int i = 0; i < count; i++)
        tiny |= rest[i] != 0.0;
    for (int i = 0; i < count; i++)
        ones[i] = (int64_t)1 << 32 | (block->y[i] == 1.0);
    for (int i = 0; i < count; i++) {
        if (!plain && cells[i] < 0)
            continue;
        cell *cell = figures->cells + cells[i];
        cell->counts += ones[i];
        cell->high += high[i];
        cell->low += low[i];
    }
    for (int i = 0; tiny && !report->exact && i < count; i++)
        if (cells[i] >= 0)
            add_one(&figures->arrays, report->at.bin_probability - report->single_sums + cells[i], rest[i], figures);
    add_padded(single(figures, report->at.brier), squares, count);
    if (!is_cross_entropy(job))
        add_padded(single(figures, report->at.cross_entropy), losses, count);
    figures->cell_adds += count;
    if (figures->cell_adds > MOST_CELL_ADDS)
        settle_calibration(report, figures);
}

#endif

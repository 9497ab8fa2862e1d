/* Dice and Tversky losses: the steps of core/losses/overlap.py, bit for bit. */
#ifndef LOSSD_OVERLAP_H
#define LOSSD_OVERLAP_H

#include "elements.h"
#include "row_sums.h"
#include "rows.h"

/* Some numbers of rows: the probabilities of the positive class and of the other one. */
typedef struct {
    double p[BLOCK + LANES], q[BLOCK + LANES];
} lossd_probabilities;

/* near: as in lossd_logit */
LOSSD_INLINE void lossd_probabilities_of_logits(int near, int n, const double *restrict x, double *restrict p,
                                                double *restrict q) {
    for (int i = 0; i < n; i++) {
        lossd_exp exp = lossd_exp_minus(0, fabs(x[i]), 0.0);
        double odds = 1.0 + exp.q.hi;
        odds = near ? lossd_scaled_normal(odds, exp.n) : lossd_scaled(odds, exp.n);
        double likely = 1.0 / (1.0 + odds), unlikely = odds * likely;
        p[i] = x[i] >= 0.0 ? likely : unlikely;
        q[i] = x[i] >= 0.0 ? unlikely : likely;
    }
}

static void lossd_probabilities_of(const formula *how, const rows *rows, int n, lossd_probabilities *restrict to) {
    const double *restrict x = rows->x, *restrict kept = rows->kept;
    int64_t far = 0;
    for (int i = 0; i < n; i++) far |= !(fabs(x[i]) < LOSSD_NEAR);
    if (how->probabilities)
        for (int i = 0; i < n; i++) {
            to->p[i] = x[i];
            to->q[i] = 1.0 - x[i];
        }
    else if (far)
        lossd_probabilities_of_logits(0, n, x, to->p, to->q);
    else
        lossd_probabilities_of_logits(1, n, x, to->p, to->q);
    for (int i = 0; rows->drops && i < n; i++) to->p[i] = kept[i] != 0.0 ? to->p[i] : 0.0; /* its target is 0 */
}

/* What numbers of rows add to the sums of true positives, false positives and false negatives. */
typedef struct {
    double tp[BLOCK + LANES], fp[BLOCK + LANES], fn[BLOCK + LANES];
} lossd_products_of_rows;

static void lossd_multiply(const lossd_probabilities *restrict of, const double *restrict y, int n,
                           lossd_products_of_rows *restrict to) {
    for (int i = 0; i < n; i++) {
        to->tp[i] = of->p[i] * y[i];
        to->fp[i] = of->p[i] * (1.0 - y[i]);
        to->fn[i] = of->q[i] * y[i];
    }
}

/* The three sums of a row's numbers, each the exact sum of its parts, and that of its targets. */
typedef struct {
    double tp[ROW_CUTS], fp[ROW_CUTS], fn[ROW_CUTS], targets;
} lossd_hard_sums;

static const lane_bits LOSSD_LANE = {
    0, 1,
#if LANES > 2
    2, 3,
#endif
#if LANES > 4
    4, 5, 6, 7
#endif
};

/* The sums of up to BLOCK numbers whose targets are 0 and 1, behind which there is room for LANES numbers, from
 * some cuts (row_sums.h); 0 where these leave something, or a number is NaN.
 */
LOSSD_INLINE int lossd_cut_hard(int cuts, const double *p, const double *q, const double *y, int n,
                                lossd_hard_sums *to) {
    lanes all[ROW_CUTS] = {{0}}, tp[ROW_CUTS] = {{0}}, fn[ROW_CUTS] = {{0}}, targets = {0};
    lane_bits left = {0};
    for (int i = 0; i < n; i += LANES) {
        const lane_bits mine = LOSSD_LANE < n - i;
        const lanes target = (lanes)((lane_bits)load_lanes(y + i) & mine);
        const lane_bits positive = target > 0.0;
        lanes value = (lanes)((lane_bits)load_lanes(p + i) & mine);
        lanes other = (lanes)((lane_bits)load_lanes(q + i) & positive), part;
        targets += target;
        for (int cut = 0; cut < cuts; cut++) {
            part = (value + UNIT_CUT[cut]) - UNIT_CUT[cut];
            all[cut] += part;
            tp[cut] += (lanes)((lane_bits)part & positive);
            value -= part;
            part = (other + UNIT_CUT[cut]) - UNIT_CUT[cut];
            fn[cut] += part;
            other -= part;
        }
        left |= (lane_bits)value | (lane_bits)other;
    }
    for (int cut = 0; cut < ROW_CUTS; cut++) {
        to->tp[cut] = cut < cuts ? add_lanes(tp[cut]) : 0.0;
        to->fp[cut] = cut < cuts ? add_lanes(all[cut]) - to->tp[cut] : 0.0;
        to->fn[cut] = cut < cuts ? add_lanes(fn[cut]) : 0.0;
    }
    to->targets = add_lanes(targets);
    return !any_lane(left);
}

/* The same from two cuts, or where these have once left something, as of very sure predictions, from all. */
static int lossd_add_hard(int *sure, const double *p, const double *q, const double *y, int n, lossd_hard_sums *to) {
    if (!*sure && lossd_cut_hard(2, p, q, y, n, to)) return 1;
    *sure = 1;
    return lossd_cut_hard(ROW_CUTS, p, q, y, n, to);
}

static double lossd_ratio_of_errors(double smooth, double alpha, double beta, double tp, double fp, double fn) {
    double errors = alpha * fp + beta * fn, all = (tp + errors) + smooth;
    return errors == 0.0 ? 0.0 : errors / all; /* also where both are 0 */
}

static void lossd_unit_sums(const double *values, int rows, int size, double *to) {
    sum_rows(ROW_UNIT, values, rows, size, 0.0, to, NULL);
}

/* Rows that are in one block. */
static int lossd_tversky_of_rows(const formula *how, double alpha, double beta, rows *rows, const row_results *to) {
    const int n = rows->count, size = (int)rows->size;
    lossd_probabilities of;
    lossd_products_of_rows products;
    double tp[BLOCK], fp[BLOCK], fn[BLOCK];
    int multiplied = 0, sure = 0;
    if (!read_rows(rows, 0, n * size)) return 0;
    lossd_probabilities_of(how, rows, n * size, &of);
    const int hard = size >= SHORT_ROW && lossd_are_0_or_1(n * size, rows->y), step = hard ? 1 : n;
    for (int i = 0; i < n; i += step) {
        lossd_hard_sums sums;
        const int at = i * size;
        if (hard && lossd_add_hard(&sure, of.p + at, of.q + at, rows->y + at, size, &sums) &&
            add_four(sums.tp, tp + i) && add_four(sums.fp, fp + i) && add_four(sums.fn, fn + i)) {
            to->targets[i] = sums.targets;
            continue;
        }
        if (!multiplied) lossd_multiply(&of, rows->y, n * size, &products);
        multiplied = 1;
        lossd_unit_sums(products.tp + at, step, size, tp + i);
        lossd_unit_sums(products.fp + at, step, size, fp + i);
        lossd_unit_sums(products.fn + at, step, size, fn + i);
        lossd_unit_sums(rows->y + at, step, size, to->targets + i);
    }
    for (int i = 0; i < n; i++)
        to->loss[i] = lossd_ratio_of_errors(how->own[0], alpha, beta, tp[i], fp[i], fn[i]);
    return 1;
}

static void lossd_add_parts(wide_sum *sum, const double parts[ROW_CUTS]) {
    for (int cut = 0; cut < ROW_CUTS; cut++)
        if (parts[cut] != 0.0) add_number(sum, parts[cut]);
}

/* One long row, piece by piece. */
static int lossd_tversky_of_row(const formula *how, double alpha, double beta, rows *rows, const row_results *to) {
    wide_sum tp, fp, fn, targets;
    lossd_probabilities of;
    lossd_products_of_rows products;
    wide_sum *const all[] = {&tp, &fp, &fn, &targets};
    int sure = 0;
    for (int i = 0; i < 4; i++) clear_sum(all[i]);
    for (int64_t from = 0; from < rows->size; from += BLOCK) {
        const int n = rows->size - from < BLOCK ? (int)(rows->size - from) : BLOCK;
        lossd_hard_sums sums;
        if (!read_rows(rows, from, n)) return 0;
        lossd_probabilities_of(how, rows, n, &of);
        if (lossd_are_0_or_1(n, rows->y) && lossd_add_hard(&sure, of.p, of.q, rows->y, n, &sums)) {
            lossd_add_parts(&tp, sums.tp);
            lossd_add_parts(&fp, sums.fp);
            lossd_add_parts(&fn, sums.fn);
            add_number(&targets, sums.targets);
            continue;
        }
        lossd_multiply(&of, rows->y, n, &products);
        double *const values[] = {products.tp, products.fp, products.fn, of.p};
        memcpy(of.p, rows->y, sizeof(double) * (size_t)n);
        for (int i = 0; i < 4; i++) {
            memset(values[i] + n, 0, sizeof(double) * LANES);
            add_block(all[i], values[i], n);
        }
    }
    to->targets[0] = rounded_sum(&targets);
    to->loss[0] = lossd_ratio_of_errors(how->own[0], alpha, beta, rounded_sum(&tp), rounded_sum(&fp), rounded_sum(&fn));
    return 1;
}

static int lossd_tversky_losses(const formula *how, double alpha, double beta, rows *rows, const row_results *to) {
    return rows->count * rows->size <= BLOCK ? lossd_tversky_of_rows(how, alpha, beta, rows, to)
                                             : lossd_tversky_of_row(how, alpha, beta, rows, to);
}

static int lossd_dice(const formula *how, rows *rows, const row_results *to) {
    return lossd_tversky_losses(how, 0.5, 0.5, rows, to);
}

/* Its own parameters: smooth, per, alpha, beta. */
static int lossd_tversky(const formula *how, rows *rows, const row_results *to) {
    return lossd_tversky_losses(how, how->own[2], how->own[3], rows, to);
}

#endif

/* The losses of rows of class logits: the steps of core/losses/softmax.py, bit for bit.
 *
 * With m the greatest logit of a row and t = m - x, class c costs -log p_c = t_c + log(1 + S), where S is the
 * exact sum of exp(-t) over all classes but the first of the greatest. So no tail is lost, and the order of the
 * other classes cannot matter.
 */
#ifndef LOSSD_SOFTMAX_H
#define LOSSD_SOFTMAX_H

#include "elements.h"
#include "row_sums.h"
#include "rows.h"

#define LOSSD_CLOSE 22.8 /* exp(-22.8) is over ROW_CLOSE */
#define LOSSD_TINY_SUM 0x1p-60 /* below it log(1 + S) is S to more digits than count */

/* What is known of each row. */
typedef struct {
    double greatest[BLOCK]; /* m */
    double sum[BLOCK], sum_low[BLOCK]; /* S */
    double log[BLOCK], log_low[BLOCK]; /* log(1 + S) */
    double first[BLOCK];    /* the first class of the greatest, for a report; 0 where a number is NaN */
    double x[BLOCK], e[BLOCK], e_low[BLOCK]; /* of the target's class, if targets are ids */
} softmax_rows;

/* Numbers of rows that are computed with together. */
typedef struct {
    double greatest[BLOCK + LANES], e[BLOCK + LANES], e_low[BLOCK + LANES], miss[BLOCK], miss_low[BLOCK];
    double y[BLOCK + LANES], factor[BLOCK], value[BLOCK + LANES], product[BLOCK + LANES];
} softmax_numbers;

/* A loss: cross entropy has no power. */
typedef struct {
    int focal, fine; /* fine: S is wanted to more digits than one number has */
    double gamma, smoothing;
    const tensor *factors; /* of each class; axes 0: none */
} softmax_loss;

/* scripts/coefficients.py derives and checks these. */
static const double LOSSD_SHORT_EXP_TAIL[5] = {0x1.5555555555556p-3, 0x1.5555555519411p-5, 0x1.11111110ca013p-7,
                                               0x1.6c17bb61d63c9p-10, 0x1.a01b3b1ae42a1p-13};
/* 2^-(i / 16), and what is lost of it */
static const double LOSSD_ROOTS[16] = {
    0x1.0000000000000p+0, 0x1.ea4afa2a490dap-1, 0x1.d5818dcfba487p-1, 0x1.c199bdd85529cp-1,
    0x1.ae89f995ad3adp-1, 0x1.9c49182a3f090p-1, 0x1.8ace5422aa0dbp-1, 0x1.7a11473eb0187p-1,
    0x1.6a09e667f3bcdp-1, 0x1.5ab07dd485429p-1, 0x1.4bfdad5362a27p-1, 0x1.3dea64c123422p-1,
    0x1.306fe0a31b715p-1, 0x1.2387a6e756238p-1, 0x1.172b83c7d517bp-1, 0x1.0b5586cf9890fp-1};
static const double LOSSD_ROOTS_LOW[16] = {
    0x0.0p+0, -0x1.e9c23179c2893p-55, 0x1.2ed02d75b3707p-56, 0x1.11065895048ddp-56,
    0x1.7a1cd345dcc81p-55, 0x1.c7c46b071f2bep-57, 0x1.6e9f156864b27p-55, -0x1.41577ee04992fp-56,
    -0x1.bdd3413b26456p-55, 0x1.6324c054647adp-55, 0x1.d4397afec42e2p-57, 0x1.ada0911f09ebcp-56,
    0x1.6f46ad23182e4p-56, 0x1.9b07eb6c70573p-55, -0x1.19041b9d78a76p-56, 0x1.8a62e4adc610bp-55};

/* ---- numbers ---- */

/* The numbers of a table of 16, at the places that the last four bits say. */
ROW_INLINE lanes lossd_of_table(const double table[16], lane_bits place) {
#if LANES == 8
    return (lanes)_mm512_permutex2var_pd((__m512d)load_lanes(table), (__m512i)place, (__m512d)load_lanes(table + 8));
#else
    lanes found;
    for (int j = 0; j < LANES; j++) found[j] = table[place[j] & 15];
    return found;
#endif
}

/* m - x, where an infinite m is as far from itself as any other */
LOSSD_INLINE lossd_two lossd_below(double m, double x) {
    lossd_two t = lossd_sum(m, -x);
    double hi = x == m ? 0.0 : t.hi;
    return lossd_pair(hi, (x == m) | (hi > DBL_MAX) ? 0.0 : t.lo);
}

/* exp(-(t + low)) for 0 <= t, near: t is less than LOSSD_NEAR; lanes at a time, as compilers do not find out.
 *
 * 2^-(n / 16) exp(r) for the integer n nearest to 16 t / ln(2), the power of 2 in two numbers from a table.
 */
ROW_INLINE lanes lossd_exps_of(int near, lanes t, lanes low) {
    const double *c = LOSSD_SHORT_EXP_TAIL;
    lanes shifted = t * (16.0 * LOSSD_LOG2_E) + LOSSD_TO_INTEGER, n = shifted - LOSSD_TO_INTEGER;
    lanes r = (n * (LOSSD_LN2_HIGH / 16.0) - t) + (n * (LOSSD_LN2_LOW / 16.0) - low), square = r * r;
    lanes tail = (c[0] + c[1] * r) + ((c[2] + c[3] * r) + c[4] * square) * square;
    lanes q = r + square * (0.5 + r * tail);
    lane_bits bits = (lane_bits)shifted;
    lanes high = lossd_of_table(LOSSD_ROOTS, bits);
    lanes value = high + (lossd_of_table(LOSSD_ROOTS_LOW, bits) + high * q);
    if (near) return (lanes)((lane_words)value - ((lane_words)(bits & ~15) << 48));
    lane_bits power = (bits & 0xffff) >> 4, half = power >> 1;
    return value * (lanes)((1023 - half) << 52) * (lanes)((1023 - (power - half)) << 52);
}

/* e = exp(x - m), of arrays that are filled up to a multiple of LANES; the greatest m - x, infinite if one is NaN.
 *
 * near: what is found is of use only if no m - x is LOSSD_NEAR or more. exact: all m - x are float64s, none is NaN.
 */
ROW_INLINE double lossd_exps_below(int near, int exact, int n, const double *m, const double *x, double *e) {
    lanes farthest = {0}, lost = {0};
    for (int i = 0; i < n; i += LANES) {
        lanes a = load_lanes(m + i), b = load_lanes(x + i), t = a - b, v = t - a;
        lanes low = exact ? (lanes){0} : (a - (t - v)) + (-b - v);
        farthest = greater_lanes(t, farthest);
        if (!exact) lost += low; /* NaN from the first one on */
        if (!near) {
            lane_bits same = a == b, far = same | (t > LOSSD_FAR);
            t = (lanes)(((lane_bits)t & ~far) | ((lane_bits)(LOSSD_FAR + (lanes){0}) & far & ~same));
            low = (lanes)((lane_bits)low & ~far);
        }
        lanes value = lossd_exps_of(near, t, low);
        memcpy(e + i, &value, sizeof value);
    }
    return any_lane(lost != lost) ? INFINITY : greatest_lane(farthest);
}

/* The same, and what e lacks. */
static void lossd_fine_exps_below(int n, const double *restrict m, const double *restrict x, double *restrict e,
                                  double *restrict low) {
    for (int i = 0; i < n; i++) {
        lossd_two t = lossd_below(m[i], x[i]);
        lossd_exp exp = lossd_exp_minus(1, t.hi, t.hi > LOSSD_FAR ? 0.0 : t.lo);
        lossd_two one = lossd_sum_of_ordered(1.0, exp.q.hi);
        e[i] = lossd_scaled(one.hi, exp.n);
        low[i] = lossd_scaled(one.lo + exp.q.lo, exp.n);
    }
}

/* Fill up an array. */
static void lossd_fill_up(double *values, int n) {
    for (int i = n; i % LANES; i++) values[i] = 0.0;
}

/* e = exp(x - m), and if it is to be fine, what e lacks; whether e is at least ROW_CLOSE, and not NaN.
 * exact: as in lossd_exps_below.
 * The arrays have room up to a multiple of LANES.
 */
static int lossd_class_exps(int fine, int exact, int n, double *m, double *x, double *e, double *low) {
    if (fine) {
        lossd_fine_exps_below(n, m, x, e, low);
        return 0;
    }
    lossd_fill_up(m, n);
    lossd_fill_up(x, n);
    double farthest = exact ? lossd_exps_below(1, 1, n, m, x, e) : lossd_exps_below(1, 0, n, m, x, e);
    if (farthest >= LOSSD_NEAR) {
        lossd_exps_below(0, 0, n, m, x, e);
        return 0;
    }
    return farthest < LOSSD_CLOSE;
}

/* log(1 + s) */
LOSSD_INLINE lossd_two lossd_log_of_sum(lossd_two s) {
    lossd_two one = lossd_sum(1.0, s.hi);
    return lossd_choice(s.hi < LOSSD_TINY_SUM, s, lossd_fine_log(lossd_pair(one.hi, one.lo + s.lo)));
}

/* -log p */
LOSSD_INLINE lossd_two lossd_cost_of_class(lossd_two t, lossd_two log) {
    lossd_two cost = lossd_plus(t, log);
    return lossd_pair(cost.hi, cost.hi > DBL_MAX ? 0.0 : cost.lo);
}

/* 1 - p: S / (1 + S) for the greatest, else (1 + (S - e)) / (1 + S) */
LOSSD_INLINE lossd_two lossd_miss_of_class(int greatest, lossd_two s, lossd_two e) {
    lossd_two others = lossd_sum(s.hi, -e.hi), whole = lossd_sum(1.0, s.hi);
    others = lossd_plus(lossd_pair(1.0, 0.0), lossd_pair(others.hi, others.lo + (s.lo - e.lo)));
    return lossd_over(lossd_choice(greatest, s, others), lossd_pair(whole.hi, whole.lo + s.lo));
}

/* The product, rounded; a coefficient of 0 makes 0 of infinity. */
LOSSD_INLINE double lossd_softmax_term(lossd_two coefficient, lossd_two cost) {
    lossd_two product = lossd_times(coefficient, cost);
    double value = product.hi + (fabs(product.hi) <= DBL_MAX ? product.lo : 0.0);
    return (coefficient.hi == 0.0) & (cost.hi > DBL_MAX) ? 0.0 : value;
}

/* power times cost, the power being 1 where the cost is infinite */
LOSSD_INLINE lossd_two lossd_powered_cost(double power, lossd_two cost) {
    lossd_two product = lossd_product(power, cost.hi);
    int infinite = cost.hi > DBL_MAX;
    return lossd_pair(product.hi, infinite ? 0.0 : product.lo + power * cost.lo);
}

/* ---- rows ---- */

/* The greatest number of a row; NaN is passed over. */
LOSSD_INLINE double lossd_greatest_of_row(const double *x, int size) {
    double greatest = -INFINITY;
    int i = 0;
    if (size >= LANES) {
        lanes most = (lanes){0} - INFINITY, value;
        for (; i < size; i += LANES) { /* the last LANES numbers may be seen twice */
            value = load_lanes(x + (i + LANES <= size ? i : size - LANES));
            most = greater_lanes(value, most);
        }
        return greatest_lane(most);
    }
    for (; i < size; i++) greatest = x[i] > greatest ? x[i] : greatest;
    return greatest;
}

/* The same of short rows, from `row` on: one in each lane. */
LOSSD_INLINE void lossd_greatest_beside(const double *x, int row, int rows, int size, double *greatest) {
    const double *at[LANES];
    lanes most = (lanes){0} - INFINITY, value = {0};
    for (int j = 0; j < LANES; j++) at[j] = x + (row + j < rows ? row + j : rows - 1) * size;
    for (int i = 0; i < size; i++) {
        for (int j = 0; j < LANES; j++) value[j] = at[j][i];
        most = greater_lanes(value, most);
    }
    for (int j = 0; j < LANES && row + j < rows; j++) greatest[row + j] = most[j];
}

static void lossd_greatest_of_rows(const double *x, int rows, int size, double *greatest) {
    if (size < SHORT_ROW)
        for (int row = 0; row < rows; row += LANES) lossd_greatest_beside(x, row, rows, size, greatest);
    else
        for (int row = 0; row < rows; row++) greatest[row] = lossd_greatest_of_row(x + row * size, size);
}

/* Each row's number for all numbers of the row; `to` has room for LANES more. */
static void lossd_spread(const double *each, int rows, int size, double *to) {
    for (int row = 0; row < rows; row++) {
        lanes all = (lanes){0} + each[row];
        for (int i = 0; i < size; i += LANES) memcpy(to + row * size + i, &all, sizeof all);
    }
}

static int lossd_place_of(double value, const double *x, int n) {
    for (int i = 0; i < n; i++)
        if (x[i] == value) return i;
    return 0; /* all are NaN */
}

/* Keep what a loss must know of the class of the target. */
LOSSD_INLINE void lossd_keep_class(softmax_rows *known, int row, double x, double e, double low) {
    known->x[row] = x;
    known->e[row] = e;
    known->e_low[row] = low;
}

/* Whether m - x is seen to be a float64 for the numbers that were just read; where it matters. */
static int lossd_is_exact(const rows *rows, const softmax_rows *known, int fine, int n) {
    const float m = (float)known->greatest[0]; /* of a long row: perhaps not among these numbers */
    return !fine && rows->side_by_side && differ_exactly(rows->side_by_side, n) && differ_exactly((const char *)&m, 1);
}

/* Whole rows: their numbers are then in rows->x. */
static int lossd_scale_rows(rows *rows, int fine, int report, softmax_rows *known, softmax_numbers *at) {
    const int count = rows->count, size = (int)rows->size, n = count * size;
    if (!read_rows(rows, 0, n)) return 0;
    const double *x = rows->x;
    lossd_greatest_of_rows(x, count, size, known->greatest);
    lossd_spread(known->greatest, count, size, at->greatest);
    int close = lossd_class_exps(fine, lossd_is_exact(rows, known, fine, n), n, at->greatest, rows->x, at->e, at->e_low);
    exact_row_sums_less_one(at->e, count, size, close, known->sum, fine ? known->sum_low : NULL);
    if (fine) {
        exact_row_sums(at->e_low, count, size, at->value);
        for (int row = 0; row < count; row++) known->sum_low[row] += at->value[row];
    }
    for (int row = 0; rows->ids && row < count; row++) {
        int place = row * size + (int)rows->ids[row];
        lossd_keep_class(known, row, x[place], at->e[place], fine ? at->e_low[place] : 0.0);
    }
    for (int row = 0; report && row < count; row++)
        known->first[row] = lossd_place_of(known->greatest[row], x + row * size, size);
    return 1;
}

static void lossd_add_numbers(wide_sum *sum, double *values, int n) {
    lossd_fill_up(values, n);
    add_block(sum, values, n);
}

/* The greatest of a row that is longer than a block, and its first place. */
static int lossd_scale_long_row(rows *rows, softmax_rows *known) {
    known->greatest[0] = -INFINITY;
    known->first[0] = 0.0;
    for (int64_t from = 0; from < rows->size; from += BLOCK) {
        int n = rows->size - from < BLOCK ? (int)(rows->size - from) : BLOCK;
        if (!read_rows(rows, from, n)) return 0;
        double greatest = lossd_greatest_of_row(rows->x, n);
        if (greatest > known->greatest[0]) {
            known->greatest[0] = greatest;
            known->first[0] = (double)(from + lossd_place_of(greatest, rows->x, n));
        }
    }
    return 1;
}

/* A row that is longer than a block. */
static int lossd_sum_long_row(rows *rows, int fine, softmax_rows *known, softmax_numbers *at) {
    wide_sum sum, low;
    clear_sum(&sum);
    clear_sum(&low);
    for (int64_t from = 0; from < rows->size; from += BLOCK) {
        int n = rows->size - from < BLOCK ? (int)(rows->size - from) : BLOCK;
        if (!read_rows(rows, from, n)) return 0;
        for (int i = 0; i < n; i++) at->greatest[i] = known->greatest[0];
        lossd_class_exps(fine, lossd_is_exact(rows, known, fine, n), n, at->greatest, rows->x, at->e, at->e_low);
        lossd_add_numbers(&sum, at->e, n);
        if (fine) lossd_add_numbers(&low, at->e_low, n);
        double place = rows->ids ? rows->ids[0] - (double)from : -1.0;
        if (place >= 0.0 && place < n)
            lossd_keep_class(known, 0, rows->x[(int)place], at->e[(int)place], fine ? at->e_low[(int)place] : 0.0);
    }
    add_number(&sum, -1.0);
    double terms[MOST_TERMS];
    int count = sum_terms(&sum, terms);
    known->sum[0] = terms[0];
    known->sum_low[0] = fine && count > 1 ? terms[1] : 0.0;
    if (fine) known->sum_low[0] += rounded_sum(&low);
    return 1;
}

static int lossd_is_long(const rows *rows) { return rows->count * rows->size > BLOCK; }

/* Find m, S and log(1 + S) of rows; 0: a value was refused. */
static int lossd_scale(rows *rows, int fine, int report, softmax_rows *known, softmax_numbers *at) {
    if (lossd_is_long(rows)) {
        if (!lossd_scale_long_row(rows, known) || !lossd_sum_long_row(rows, fine, known, at)) return 0;
    } else if (!lossd_scale_rows(rows, fine, report, known, at)) {
        return 0;
    }
    for (int row = 0; row < rows->count; row++) {
        double low = fine ? known->sum_low[row] : 0.0;
        lossd_two log = lossd_log_of_sum(lossd_pair(known->sum[row], low));
        known->sum_low[row] = low;
        known->log[row] = log.hi;
        known->log_low[row] = log.lo;
        if (known->sum[row] != known->sum[row]) known->first[row] = 0.0;
    }
    return 1;
}

/* ---- losses ---- */

/* (1 - p)^gamma, in place */
static void lossd_softmax_powers(double gamma, int n, double *restrict miss, double *restrict low) {
    for (int i = 0; i < n; i += LOSSD_PIECE)
        lossd_powers(gamma, n - i < LOSSD_PIECE ? n - i : LOSSD_PIECE, miss + i, low + i);
}

/* The losses of rows whose target is an id, not smoothed: a class's cost each. */
static void lossd_losses_by_id(const softmax_loss *loss, const rows *rows, const softmax_rows *known,
                               softmax_numbers *at, double *restrict to) {
    const int count = rows->count, focal = loss->focal && loss->gamma != 0.0;
    double *restrict power = at->miss, *restrict low = at->miss_low;
    for (int i = 0; focal && i < count; i++) {
        lossd_two s = lossd_pair(known->sum[i], known->sum_low[i]), e = lossd_pair(known->e[i], known->e_low[i]);
        lossd_two miss = lossd_miss_of_class(known->x[i] == known->greatest[i], s, e);
        power[i] = miss.hi;
        low[i] = miss.lo;
    }
    if (focal) lossd_softmax_powers(loss->gamma, count, power, low);
    for (int i = 0; i < count; i++) {
        lossd_two t = lossd_below(known->greatest[i], known->x[i]);
        lossd_two cost = lossd_cost_of_class(t, lossd_pair(known->log[i], known->log_low[i]));
        if (focal) cost = lossd_powered_cost(power[i], cost);
        double value = lossd_softmax_term(lossd_pair(loss->factors->axes ? at->factor[i] : 1.0, 0.0), cost);
        to[i] = known->sum[i] == known->sum[i] ? value : NAN;
    }
}

/* Targets after smoothing e over C classes: y keep + share, with keep 1 - e and share e / C. */
typedef struct {
    int on;
    lossd_two keep, share;
} softmax_smoothing;

static softmax_smoothing lossd_smoothing_over(double e, double classes) {
    softmax_smoothing found = {e != 0.0, lossd_sum_of_ordered(1.0, -e),
                               lossd_over(lossd_pair(e, 0.0), lossd_pair(classes, 0.0))};
    return found;
}

/* The terms of n classes of a row: of logits x, targets y, e and what e lacks, with factors in at->factor. */
static void lossd_terms_of_classes(const softmax_loss *loss, softmax_smoothing smoothing, int n,
                                   const double *restrict x, const double *restrict y, const double *restrict e,
                                   const double *restrict e_low, const softmax_rows *known, int row,
                                   softmax_numbers *at, double *restrict to) {
    const double m = known->greatest[row], *restrict factor = at->factor;
    const lossd_two s = {known->sum[row], known->sum_low[row]}, log = {known->log[row], known->log_low[row]};
    const int fine = loss->fine, focal = loss->focal && loss->gamma != 0.0, factors = loss->factors->axes != 0;
    double *restrict power = at->miss, *restrict low = at->miss_low;
    if (focal) {
        for (int i = 0; i < n; i++) {
            lossd_two miss = lossd_miss_of_class(x[i] == m, s, lossd_pair(e[i], fine ? e_low[i] : 0.0));
            power[i] = miss.hi;
            low[i] = miss.lo;
        }
        lossd_softmax_powers(loss->gamma, n, power, low);
    }
    for (int i = 0; i < n; i++) {
        lossd_two cost = lossd_cost_of_class(lossd_below(m, x[i]), log), coefficient = {y[i], 0.0};
        if (smoothing.on) coefficient = lossd_plus(lossd_times(smoothing.keep, coefficient), smoothing.share);
        if (factors) coefficient = lossd_times(coefficient, lossd_pair(factor[i], 0.0));
        if (focal) cost = lossd_powered_cost(power[i], cost);
        to[i] = lossd_softmax_term(coefficient, cost);
    }
}

/* The targets of n numbers of rows from `from` on, before smoothing. */
static const double *lossd_class_targets(const rows *rows, int64_t from, int n, double *y) {
    if (!rows->ids) return rows->y;
    memset(y, 0, sizeof *y * (size_t)n);
    for (int row = 0; row < rows->count; row++) {
        double place = (double)(row * rows->size - from) + rows->ids[row];
        if (place >= 0.0 && place < n) y[(int)place] = 1.0;
    }
    return y;
}

/* The first of the greatest targets, NaN counting as 0. */
static void lossd_greatest_target(const double *y, int n, int64_t from, double *greatest, double *class_of) {
    for (int i = 0; i < n; i++)
        if (y[i] > *greatest) {
            *greatest = y[i];
            *class_of = (double)(from + i);
        }
}

/* Sums of what each class of a row adds. */
enum { SUM_LOSS, SUM_TARGETS, SUM_WEIGHT, SOFTMAX_SUMS };

/* A row that is longer than a block, by all its classes. */
static int lossd_long_row_by_classes(const softmax_loss *loss, rows *rows, const softmax_rows *known,
                                     softmax_numbers *at, const row_results *to) {
    const softmax_smoothing smoothing = lossd_smoothing_over(loss->smoothing, (double)rows->size);
    wide_sum sums[SOFTMAX_SUMS];
    double most = 0.0, class_of = 0.0, share = 0.0;
    for (int i = 0; i < SOFTMAX_SUMS; i++) clear_sum(&sums[i]);
    for (int64_t from = 0; from < rows->size; from += BLOCK) {
        int n = rows->size - from < BLOCK ? (int)(rows->size - from) : BLOCK;
        if (!read_rows(rows, from, n)) return 0;
        const double *y = lossd_class_targets(rows, from, n, at->y);
        if (loss->factors->axes) read_class_factors(loss->factors, rows, from, n, at->factor);
        if (loss->focal) {
            for (int i = 0; i < n; i++) at->greatest[i] = known->greatest[0];
            lossd_class_exps(loss->fine, lossd_is_exact(rows, known, loss->fine, n), n, at->greatest, rows->x, at->e,
                             at->e_low);
        }
        lossd_terms_of_classes(loss, smoothing, n, rows->x, y, at->e, at->e_low, known, 0, at, at->value);
        lossd_add_numbers(&sums[SUM_LOSS], at->value, n);
        lossd_greatest_target(y, n, from, &most, &class_of);
        if (known->first[0] >= (double)from && known->first[0] < (double)(from + n))
            share = y[(int)(known->first[0] - (double)from)];
        for (int i = 0; i < n; i++) at->value[i] = y[i];
        lossd_add_numbers(&sums[SUM_TARGETS], at->value, n);
        for (int i = 0; i < n; i++) at->value[i] = loss->factors->axes ? y[i] * at->factor[i] : y[i];
        lossd_add_numbers(&sums[SUM_WEIGHT], at->value, n);
    }
    to->loss[0] = known->sum[0] == known->sum[0] ? rounded_sum(&sums[SUM_LOSS]) : NAN;
    to->targets[0] = rounded_sum(&sums[SUM_TARGETS]);
    if (loss->factors->axes && !loss->focal) to->weight[0] = rounded_sum(&sums[SUM_WEIGHT]);
    if (to->confidence) {
        to->correct[0] = share;
        to->class_of[0] = class_of;
    }
    return 1;
}

/* Whole rows, by all their classes. */
static void lossd_rows_by_classes(const softmax_loss *loss, const rows *rows, const softmax_rows *known,
                                  softmax_numbers *at, const row_results *to) {
    const int count = rows->count, size = (int)rows->size, n = count * size, factors = loss->factors->axes != 0;
    const softmax_smoothing smoothing = lossd_smoothing_over(loss->smoothing, (double)size);
    const double *y = lossd_class_targets(rows, 0, n, at->y);
    if (factors) read_class_factors(loss->factors, rows, 0, size, at->factor);
    for (int row = 0; row < count; row++) {
        const int first = row * size;
        lossd_terms_of_classes(loss, smoothing, size, rows->x + first, y + first, at->e + first, at->e_low + first,
                               known, row, at, at->value + first);
    }
    exact_row_sums(at->value, count, size, to->loss);
    exact_row_sums(y, count, size, to->targets);
    for (int row = 0; row < count; row++)
        to->loss[row] = known->sum[row] == known->sum[row] ? to->loss[row] : NAN;
    if (factors && !loss->focal) {
        for (int row = 0; row < count; row++)
            for (int i = 0; i < size; i++) at->product[row * size + i] = y[row * size + i] * at->factor[i];
        exact_row_sums(at->product, count, size, to->weight);
    }
    for (int row = 0; to->confidence && row < count; row++) {
        double most = 0.0;
        to->class_of[row] = 0.0;
        lossd_greatest_target(y + row * size, size, 0, &most, &to->class_of[row]);
        to->correct[row] = y[row * size + (int)known->first[row]];
    }
}

/* Rows whose target is an id, not smoothed. */
static void lossd_rows_by_id(const softmax_loss *loss, const rows *rows, const softmax_rows *known,
                             softmax_numbers *at, const row_results *to) {
    const int count = rows->count;
    if (loss->factors->axes && !lossd_is_long(rows)) {
        read_class_factors(loss->factors, rows, 0, (int)rows->size, at->product);
        for (int row = 0; row < count; row++) at->factor[row] = at->product[(int)rows->ids[row]];
    } else if (loss->factors->axes) {
        read_class_factors(loss->factors, rows, (int64_t)rows->ids[0], 1, at->factor);
    }
    lossd_losses_by_id(loss, rows, known, at, to->loss);
    for (int row = 0; row < count; row++) {
        to->targets[row] = 1.0;
        if (loss->factors->axes && !loss->focal) to->weight[row] = at->factor[row];
        if (!to->confidence) continue;
        to->class_of[row] = rows->ids[row];
        to->correct[row] = rows->ids[row] == known->first[row] ? 1.0 : 0.0;
    }
}

static int lossd_softmax(const softmax_loss *loss, rows *rows, const row_results *to) {
    softmax_rows known;
    softmax_numbers at;
    if (!lossd_scale(rows, loss->fine, to->confidence != NULL, &known, &at)) return 0;
    if (rows->ids && loss->smoothing == 0.0)
        lossd_rows_by_id(loss, rows, &known, &at, to);
    else if (!lossd_is_long(rows))
        lossd_rows_by_classes(loss, rows, &known, &at, to);
    else if (!lossd_long_row_by_classes(loss, rows, &known, &at, to))
        return 0;
    for (int row = 0; to->confidence && row < rows->count; row++) {
        to->confidence[row] = 1.0 / (1.0 + known.sum[row]);
        to->predicted[row] = known.first[row];
    }
    return 1;
}

static int lossd_cross_entropy(const formula *how, rows *rows, const row_results *to) {
    softmax_loss loss = {0, 0, 0.0, how->smoothing, &rows->job->class_weight};
    return lossd_softmax(&loss, rows, to);
}

static int lossd_softmax_focal(const formula *how, rows *rows, const row_results *to) {
    const double gamma = how->own[2]; /* after targets_format and label_smoothing */
    const int simple = gamma == 0.0 || gamma == 0.5 || gamma == 1.0 || gamma == 1.5 || gamma == 2.0 || gamma == 3.0;
    softmax_loss loss = {1, !simple, gamma, how->smoothing, &rows->job->alpha};
    return lossd_softmax(&loss, rows, to);
}

/* ---- probabilities ---- */

/* What the probabilities of a row's classes are made of. */
typedef struct {
    double greatest, others; /* m and S; S is NaN where a number of the row is */
    int64_t first;           /* the first class of the greatest */
} softmax_scale;

/* Find the scales of rows, [count]; 0: a value was refused. */
static int lossd_softmax_scales(rows *rows, softmax_scale *scales) {
    softmax_rows known;
    softmax_numbers at;
    if (!lossd_scale(rows, 0, 1, &known, &at)) return 0;
    for (int row = 0; row < rows->count; row++) {
        scales[row].greatest = known.greatest[row];
        scales[row].others = known.sum[row];
        scales[row].first = (int64_t)known.first[row];
    }
    return 1;
}

/* The probabilities of the n numbers of rows from `from` on, which are x; NaN where the row has a NaN. */
static void lossd_softmax_probabilities(const rows *rows, const softmax_scale *scales, int64_t from, int n,
                                        const double *restrict x, double *restrict p) {
    double m[BLOCK], logits[BLOCK], e[BLOCK];
    for (int i = 0; i < n; i++) {
        m[i] = scales[(from + i) / rows->size].greatest;
        logits[i] = x[i];
    }
    lossd_class_exps(0, 0, n, m, logits, e, NULL);
    for (int i = 0; i < n; i++) p[i] = e[i] / (1.0 + scales[(from + i) / rows->size].others);
}

#endif

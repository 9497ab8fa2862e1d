/* Sums from which the loss follows for other parameters: core/losses/sweep.py says how. */
#ifndef LOSSD_REPORT_SWEEP_H
#define LOSSD_REPORT_SWEEP_H

#include "losses.h"
#include "report_classes.h"

/* Add to one of the sweep's sums, or to that of each class. */
static void add_bracket(const report *report, int bracket, int gamma, int64_t start, double *values, int count,
                        figures *figures)
{
    int64_t figure = bracket * (int64_t)(report->gammas ? report->gammas : 1) + gamma;
    if (report->classes)
        add_by_place(report, &figures->arrays, report->at.sweep - report->single_sums + figure * report->classes,
                     start, values, count, figures);
    else
        add_padded(single(figures, report->at.sweep + figure), values, count);
}

/* a b, 0 times infinity being 0 */
LOSSD_INLINE double zero_or_product(double a, double b)
{
    double product = a * b;
    return ((a == 0.0) & (b == b)) | ((b == 0.0) & (a == a)) ? 0.0 : product;
}

enum { PIECE = LOSSD_PIECE };

/* What the sweep's sums are made of, for a piece of a block. */
typedef struct {
    double positive[PIECE], negative[PIECE]; /* the costs of either class */
    double y[PIECE], z[PIECE], weight[PIECE];
    double miss[PIECE], low[PIECE], fine_miss[PIECE], fine_low[PIECE];
    double power[PIECE], lost[PIECE], value[PIECE], other[PIECE];
    int one[PIECE], ones; /* the places of targets of 1 */
} sweep_piece;

LOSSD_INLINE void sweep_costs(int probabilities, int n, const double *restrict x, sweep_piece *restrict to)
{
    for (int i = 0; i < n; i++) {
        lossd_input input = lossd_input_of(probabilities, 0, 1, 0, x[i]);
        int certain = probabilities ? (x[i] == 0.0) | (x[i] == 1.0) : fabs(x[i]) > DBL_MAX;
        double likely = input.likely.hi + input.likely.lo;
        double unlikely = certain ? INFINITY : input.unlikely.hi + input.unlikely.lo;
        unlikely = likely == likely ? unlikely : likely; /* of a NaN it may be any number */
        to->positive[i] = input.positive ? likely : unlikely;
        to->negative[i] = input.positive ? unlikely : likely;
    }
}

LOSSD_INLINE void sweep_misses(int probabilities, int quality, int fine, double smoothing, int n,
                               const double *restrict x, const double *restrict y, double *restrict hi,
                               double *restrict lo)
{
    for (int i = 0; i < n; i++) {
        lossd_target target = lossd_target_of(y[i], smoothing);
        lossd_target plain = {lossd_pair(y[i], 0.0), lossd_sum_of_ordered(1.0, -y[i])};
        target.y = lossd_choice(smoothing == 0.0, plain.y, target.y);
        target.z = lossd_choice(smoothing == 0.0, plain.z, target.z);
        lossd_two miss = lossd_miss(probabilities, quality, fine, 1, lossd_input_of(probabilities, fine, 1, 0, x[i]),
                                    target);
        hi[i] = miss.hi;
        lo[i] = miss.lo;
    }
}

static void sweep_misses_of(const formula *how, int fine, int n, const double *x, const double *y, double *hi,
                            double *lo)
{
#define SWEEP_MISSES(probabilities, quality, fine) \
    sweep_misses(probabilities, quality, fine, how->smoothing, n, x, y, hi, lo)
    const int quality = how->variant == LOSSD_QUALITY;
    if (how->probabilities && quality)
        fine ? SWEEP_MISSES(1, 1, 1) : SWEEP_MISSES(1, 1, 0);
    else if (how->probabilities)
        fine ? SWEEP_MISSES(1, 0, 1) : SWEEP_MISSES(1, 0, 0);
    else if (quality)
        fine ? SWEEP_MISSES(0, 1, 1) : SWEEP_MISSES(0, 1, 0);
    else
        fine ? SWEEP_MISSES(0, 0, 1) : SWEEP_MISSES(0, 0, 0);
}

/* The costs of logits with targets of 0 and 1, without what then is nothing. */
static void hard_sweep_costs(int n, const double *restrict x, const double *restrict y, double *restrict cost)
{
    for (int i = 0; i < n; i++)
        cost[i] = lossd_hard_cross_entropy(1, lossd_logit(0, 1, 1, x[i]), y[i]);
}

/* The same, and the modulators. */
static void hard_sweep_inputs(int n, const double *restrict x, const double *restrict y, sweep_piece *restrict to)
{
    for (int i = 0; i < n; i++) {
        lossd_input input = lossd_logit(0, 1, 1, x[i]);
        lossd_two miss = lossd_hard_miss(0, 1, input, y[i]);
        to->positive[i] = lossd_hard_cross_entropy(1, input, y[i]);
        to->miss[i] = miss.hi;
        to->low[i] = miss.lo;
        to->y[i] = y[i];
    }
    to->ones = 0;
    for (int i = 0; i < n; i++) {
        to->one[to->ones] = i;
        to->ones += y[i] > 0.0;
    }
}

static void sweep_targets(double smoothing, int n, const double *y, sweep_piece *to)
{
    lossd_memory target;
    lossd_targets(smoothing, n, y, &target);
    for (int i = 0; i < n; i++) {
        to->y[i] = target.y[i] + target.y_low[i];
        to->z[i] = target.z[i] + target.z_low[i];
    }
}

static int is_simple(double gamma)
{
    return gamma == 0.0 || gamma == 0.5 || gamma == 1.0 || gamma == 1.5 || gamma == 2.0 || gamma == 3.0;
}

/* Add c y y A and its kin for one gamma, c being in `power`. */
static void add_products(const report *report, int gamma, int64_t start, int n, sweep_piece *at, figures *figures)
{
    double *value = at->value;
    const double *c = at->power, *y = at->y, *z = at->z, *positive = at->positive, *negative = at->negative;
#define PRODUCT(bracket, first, second, cost)                                                        \
    do {                                                                                             \
        for (int i = 0; i < n; i++)                                                                  \
            value[i] = zero_or_product(zero_or_product(zero_or_product(c[i], first), second), cost); \
        add_bracket(report, bracket, gamma, start, value, n, figures);                               \
    } while (0)
    PRODUCT(0, y[i], y[i], positive[i]);
    PRODUCT(1, y[i], z[i], negative[i]);
    PRODUCT(2, z[i], y[i], positive[i]);
    PRODUCT(3, z[i], z[i], negative[i]);
}

/* The same products for targets of 0 and 1, each of which has one, with its cost in `positive`.
 *
 * Those of targets of 1 are in `other`, if they are to be apart, the others in `value`.
 */
LOSSD_INLINE void hard_products(double gamma, int weighted, int apart, int n, sweep_piece *restrict at)
{
    for (int i = 0; i < n; i++) {
        const lossd_two miss = {at->miss[i], at->low[i]};
        const double power = gamma == 0.0 ? 1.0 : lossd_simple_power(miss, gamma);
        const double product = (weighted ? at->weight[i] * power : power) * at->positive[i];
        const int one = apart & (at->y[i] > 0.0);
        if (apart)
            at->other[i] = one ? product : 0.0;
        at->value[i] = one ? 0.0 : product;
    }
}

static void hard_products_of(double gamma, int weighted, int apart, int n, sweep_piece *at)
{
#define HARD_PRODUCTS(gamma)                           \
    do {                                               \
        if (weighted)                                  \
            hard_products(gamma, 1, apart, n, at);     \
        else if (apart)                                \
            hard_products(gamma, 0, 1, n, at);         \
        else                                           \
            hard_products(gamma, 0, 0, n, at);         \
    } while (0)
    if (gamma == 0.0)
        HARD_PRODUCTS(0.0);
    else if (gamma == 0.5)
        HARD_PRODUCTS(0.5);
    else if (gamma == 1.0)
        HARD_PRODUCTS(1.0);
    else if (gamma == 1.5)
        HARD_PRODUCTS(1.5);
    else if (gamma == 2.0)
        HARD_PRODUCTS(2.0);
    else
        HARD_PRODUCTS(3.0);
}

/* Add them for one of the gammas that need no logarithm. */
static void add_hard_products(const report *report, int gamma, int64_t start, int n, int weighted, sweep_piece *at,
                              figures *figures)
{
    const int apart = report->classes || at->ones > n / 8;
    hard_products_of(report->gamma[gamma], weighted, apart, n, at);
    if (apart)
        add_bracket(report, 0, gamma, start, at->other, n, figures);
    else {
        for (int k = 0; k < at->ones; k++) {
            at->other[k] = at->value[at->one[k]];
            at->value[at->one[k]] = 0.0;
        }
        if (at->ones)
            add_bracket(report, 0, gamma, start, at->other, at->ones, figures);
    }
    add_bracket(report, 3, gamma, start, at->value, n, figures);
}

static void add_bce_products(const report *report, int64_t start, int n, sweep_piece *at, figures *figures)
{
    for (int i = 0; i < n; i++) {
        at->value[i] = zero_or_product(zero_or_product(at->weight[i], at->y[i]), at->positive[i]);
        at->other[i] = zero_or_product(zero_or_product(at->weight[i], at->z[i]), at->negative[i]);
    }
    add_bracket(report, 0, 0, start, at->value, n, figures);
    add_bracket(report, 1, 0, start, at->other, n, figures);
}

/* The same for targets of 0 and 1, with their costs in `positive`. */
static void add_hard_bce_products(const report *report, int64_t start, int n, sweep_piece *at, figures *figures)
{
    const double *y = at->y;
    for (int i = 0; i < n; i++) {
        const double product = at->weight[i] * at->positive[i];
        at->value[i] = y[i] > 0.0 ? product : 0.0;
        at->other[i] = y[i] > 0.0 ? 0.0 : product;
    }
    add_bracket(report, 0, 0, start, at->value, n, figures);
    add_bracket(report, 1, 0, start, at->other, n, figures);
}

/* What an element weighs, 0 if it is dropped. */
static void weights_of(const report *report, const block *block, int from, int n, double *weight)
{
    for (int i = 0; i < n; i++)
        weight[i] = !is_kept(block, from + i) ? 0.0 : report->weighted ? block->weight[from + i] : 1.0;
}

static void sweep_powers(double gamma, int n, int weighted, sweep_piece *at)
{
    const int simple = is_simple(gamma);
    memcpy(at->power, simple ? at->miss : at->fine_miss, sizeof *at->power * (size_t)n);
    memcpy(at->lost, simple ? at->low : at->fine_low, sizeof *at->lost * (size_t)n);
    lossd_powers(gamma, n, at->power, at->lost);
    for (int i = 0; weighted && i < n; i++)
        at->power[i] = zero_or_product(at->weight[i], at->power[i]);
}

/* Whether a piece has only targets of 0 and 1 and logits that are not far out, so that its products are simple. */
static int is_plain_piece(const job *job, int fine, int n, const double *x, const double *y)
{
    const formula *how = &job->formula;
    return (how->loss == LOSSD_BCE || (how->loss == LOSSD_FOCAL && how->variant == LOSSD_SIGMOID)) &&
           !how->probabilities && !fine && how->smoothing == 0.0 && !job->allow_nan && lossd_all_hard(n, x, y);
}

static void add_sweep_piece(const job *job, const report *report, const block *block, int from, int n, int fine,
                            figures *figures)
{
    sweep_piece at;
    const formula *how = &job->formula;
    const double *x = block->x + from, *y = block->y + from;
    const int64_t start = block->start + from;
    const int hard = is_plain_piece(job, fine, n, x, y), weighted = report->weighted || block->dropped;
    if (weighted || how->loss == LOSSD_BCE)
        weights_of(report, block, from, n, at.weight);
    if (hard && how->loss == LOSSD_BCE) {
        hard_sweep_costs(n, x, y, at.positive);
        memcpy(at.y, y, sizeof *at.y * (size_t)n);
        add_hard_bce_products(report, start, n, &at, figures);
        return;
    }
    if (hard) {
        hard_sweep_inputs(n, x, y, &at);
    } else {
        sweep_targets(how->smoothing, n, y, &at);
        how->probabilities ? sweep_costs(1, n, x, &at) : sweep_costs(0, n, x, &at);
        if (how->loss == LOSSD_BCE) {
            add_bce_products(report, start, n, &at, figures);
            return;
        }
        sweep_misses_of(how, 0, n, x, y, at.miss, at.low);
        if (fine)
            sweep_misses_of(how, 1, n, x, y, at.fine_miss, at.fine_low);
    }
    for (int g = 0; g < report->gammas; g++) {
        if (hard) {
            add_hard_products(report, g, start, n, weighted, &at, figures);
            continue;
        }
        sweep_powers(report->gamma[g], n, weighted, &at);
        add_products(report, g, start, n, &at, figures);
    }
}

static void add_sweep(const job *job, const report *report, const block *block, figures *figures)
{
    int fine = 0, piece = PIECE;
    for (int g = 0; g < report->gammas; g++)
        fine |= !is_simple(report->gamma[g]);
    if (figures->lines.length && report->classes <= PIECE && report->classes) /* whole lines */
        piece = PIECE / (int)report->classes * (int)report->classes;
    for (int from = 0; from < block->count; from += piece) {
        const int n = block->count - from < piece ? block->count - from : piece;
        add_sweep_piece(job, report, block, from, n, fine, figures);
    }
}

/* The sweep of the variant whose modulator depends on pos_weight: the element without alpha, for each gamma. */
static void add_exp_sweep(const job *job, const report *report, const block *block, figures *figures)
{
    double values[BLOCK], weight[BLOCK];
    formula how = job->formula;
    how.balanced = 0;
    weights_of(report, block, 0, block->count, weight);
    for (int g = 0; g < report->gammas; g++) {
        how.gamma = report->gamma[g];
        lossd_elements(&how, block->count, block->x, block->y, job->pos_weight.axes ? block->pos_weight : NULL, NULL,
                       values);
        if (report->weighted || block->dropped)
            for (int i = 0; i < block->count; i++)
                values[i] = zero_or_product(weight[i], values[i]);
        add_bracket(report, 0, g, block->start, values, block->count, figures);
    }
}

#endif

/* The asymmetric loss for CPUs: the steps of core/losses/asymmetric.py, bit for bit.
 *
 * In many short loops: the steps wait for each other, and a CPU looks ahead into more elements of a short one.
 */
#ifndef LOSSD_ASYMMETRIC_H
#define LOSSD_ASYMMETRIC_H

#include "elements.h"

/* The probabilities of an input's two classes, from what lossd_input calls small. */
typedef struct {
    lossd_two likely, unlikely;
} lossd_chances;

LOSSD_INLINE lossd_chances lossd_chances_of(int probabilities, lossd_two small) {
    lossd_two under = lossd_sum_of_ordered(1.0, probabilities ? -small.hi : small.hi);
    lossd_chances chances = {under, small};
    if (!probabilities) {
        double likely = 1.0 / under.hi;
        lossd_two back = lossd_product(likely, under.hi);
        double rest = ((1.0 - back.hi) - back.lo) - likely * (under.lo + small.lo);
        chances.likely = lossd_pair(likely, rest * likely);
        chances.unlikely = lossd_times(small, chances.likely);
    }
    return chances;
}

/* max(p - clip, 0) */
LOSSD_INLINE lossd_two lossd_over_clip(lossd_two p, double clip) {
    lossd_two over = lossd_sum(p.hi, -clip);
    over = lossd_sum(over.hi, over.lo + p.lo);
    return lossd_choice(over.hi <= 0.0, lossd_pair(0.0, 0.0), over);
}

/* Pairs of a piece. */
typedef struct {
    double hi[LOSSD_PIECE], lo[LOSSD_PIECE];
} lossd_twos;

LOSSD_INLINE lossd_two lossd_get(const lossd_twos *from, int i) { return lossd_pair(from->hi[i], from->lo[i]); }

LOSSD_INLINE void lossd_put(lossd_twos *to, int i, lossd_two value) {
    to->hi[i] = value.hi;
    to->lo[i] = value.lo;
}

/* Of one of the loss's two terms: a number, a power of it, and the cost that this multiplies. */
typedef struct {
    lossd_twos base;
    double power[LOSSD_PIECE], cost[LOSSD_PIECE];
} lossd_term;

LOSSD_INLINE int lossd_is_positive(int probabilities, double x) { return x > (probabilities ? 0.5 : 0.0); }

/* The costs -log p and -log(1 - p), and what lossd_input calls small. */
LOSSD_INLINE void lossd_costs(int probabilities, int n, const double *restrict x, lossd_twos *restrict small,
                              lossd_term *restrict positive, lossd_term *restrict negative) {
    for (int i = 0; i < n; i++) {
        lossd_input input = lossd_input_of(probabilities, 1, 1, 0, x[i]);
        lossd_put(small, i, input.small);
        positive->cost[i] = input.positive ? input.likely.hi : input.unlikely.hi;
        negative->cost[i] = input.positive ? input.unlikely.hi : input.likely.hi;
    }
}

/* The bases 1 - p and p, and the unlikely class's probability in the place of small. */
LOSSD_INLINE void lossd_bases(int probabilities, int n, const double *restrict x, lossd_twos *restrict small,
                              lossd_term *restrict positive, lossd_term *restrict negative) {
    for (int i = 0; i < n; i++) {
        int is_positive = lossd_is_positive(probabilities, x[i]);
        lossd_chances chances = lossd_chances_of(probabilities, lossd_get(small, i));
        lossd_put(&positive->base, i, lossd_choice(is_positive, chances.unlikely, chances.likely));
        lossd_put(&negative->base, i, lossd_choice(is_positive, chances.likely, chances.unlikely));
        lossd_put(small, i, chances.unlikely);
    }
}

/* m in the place of p, and -log(1 - m); where m is over 1/2, 1 - m is unlikely + clip. */
static void lossd_clip(double clip, int n, const lossd_twos *restrict unlikely, lossd_term *restrict negative) {
    lossd_twos v;
    double exponent[LOSSD_PIECE];
    for (int i = 0; i < n; i++) {
        lossd_two m = lossd_over_clip(lossd_get(&negative->base, i), clip);
        lossd_two left = lossd_plus(lossd_pair(clip, 0.0), lossd_get(unlikely, i));
        int half = m.hi <= 0.5;
        lossd_split split = lossd_split_of(half ? 1.0 : left.hi); /* of 1, n is 0 */
        lossd_two rest = lossd_pair(split.c - 1.0, left.lo * split.up * split.scale);
        lossd_put(&v, i, lossd_choice(half, lossd_minus(m), rest));
        lossd_put(&negative->base, i, m);
        exponent[i] = split.n;
    }
    for (int i = 0; i < n; i++) {
        double log = exponent[i] * LOSSD_LN2_LOW + lossd_log1p(v.hi[i], v.lo[i]).hi;
        negative->cost[i] = -(exponent[i] * LOSSD_LN2_HIGH) - log;
    }
}

/* value^4 */
LOSSD_INLINE double lossd_fourth_power(lossd_two value) {
    lossd_two square = lossd_product(value.hi, value.hi);
    square.lo = square.lo + 2.0 * value.hi * value.lo;
    return square.hi * (square.hi + 2.0 * square.lo);
}

/* base^gamma */
static void lossd_raise(double gamma, int n, lossd_term *restrict term) {
#define LOSSD_RAISE(result)                                         \
    for (int i = 0; i < n; i++) {                                   \
        lossd_two each = lossd_get(&term->base, i);                 \
        term->power[i] = result;                                    \
    }
    if (gamma == 0.0)
        LOSSD_RAISE((each.hi = 1.0))
    else if (gamma == 0.5)
        LOSSD_RAISE(lossd_simple_power(each, 0.5))
    else if (gamma == 1.0)
        LOSSD_RAISE(lossd_simple_power(each, 1.0))
    else if (gamma == 1.5)
        LOSSD_RAISE(lossd_simple_power(each, 1.5))
    else if (gamma == 2.0)
        LOSSD_RAISE(lossd_simple_power(each, 2.0))
    else if (gamma == 3.0)
        LOSSD_RAISE(lossd_simple_power(each, 3.0))
    else if (gamma == 4.0)
        LOSSD_RAISE(lossd_fourth_power(each))
    else
        LOSSD_RAISE(lossd_power(each, gamma))
}

/* y times the one term and 1 - y times the other */
LOSSD_INLINE void lossd_sum_of_terms(int probabilities, int clipped, int n, const double *restrict x,
                                     const lossd_memory *restrict at, const lossd_term *restrict positive,
                                     const lossd_term *restrict negative, double *restrict value) {
    for (int i = 0; i < n; i++) {
        double right = positive->power[i] * positive->cost[i], wrong = negative->power[i] * negative->cost[i];
        lossd_two sum = lossd_sum(at->y[i] * right, at->z[i] * wrong);
        double loss = sum.hi + (sum.lo + (at->y_low[i] * right + at->z_low[i] * wrong));
        double against = !lossd_is_positive(probabilities, x[i]) ? at->y[i]
                         : clipped                               ? 0.0 /* 1 - m is at least clip */
                                                                 : at->z[i];
        value[i] = lossd_limit(probabilities, x[i], against, loss);
    }
}

/* y (1 - p)^gamma_pos (-log p) + (1 - y) m^gamma_neg (-log(1 - m)), with m = max(p - clip, 0) */
static void lossd_asymmetric(const formula *how, int n, const double *restrict x, const double *restrict y,
                             const double *restrict k, const double *restrict a, double *restrict value) {
    double gamma_pos = how->own[0], gamma_neg = how->own[1], clip = how->own[2];
    lossd_term positive, negative;
    lossd_twos small;
    lossd_memory at;
    (void)k, (void)a;
    lossd_targets(how->smoothing, n, y, &at);
    if (how->probabilities) {
        lossd_costs(1, n, x, &small, &positive, &negative);
        lossd_bases(1, n, x, &small, &positive, &negative);
    } else {
        lossd_costs(0, n, x, &small, &positive, &negative);
        lossd_bases(0, n, x, &small, &positive, &negative);
    }
    if (clip > 0.0) lossd_clip(clip, n, &small, &negative);
    lossd_raise(gamma_pos, n, &positive);
    lossd_raise(gamma_neg, n, &negative);
    if (how->probabilities)
        lossd_sum_of_terms(1, clip > 0.0, n, x, &at, &positive, &negative, value);
    else
        lossd_sum_of_terms(0, clip > 0.0, n, x, &at, &positive, &negative, value);
}
#endif

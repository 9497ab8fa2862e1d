/* Binary cross entropy and focal loss for CPUs, and the arithmetic of all losses: the steps of core/losses (bce.py,
 * focal.py, exp_log.py), bit for bit.
 *
 * Only + - * / sqrt, comparisons and moves of bits, each rounded on its own (-ffp-contract=off), so that every
 * compiler, optimization and vector width gives the same bits. Nothing branches on data, so that the loops
 * vectorize: a condition is a choice between two values.
 */
#ifndef LOSSD_ELEMENTS_H
#define LOSSD_ELEMENTS_H

#include <float.h>
#include <math.h>
#include <stdint.h>

#include "bits.h"
#include "catalog.h"

enum { LOSSD_PIECE = 256 }; /* so many elements at a time, whose numbers stay in the nearest cache */
enum { MOST_OWN = 8 };
enum { LOSSD_SIGMOID = 0, LOSSD_EXP = 1, LOSSD_QUALITY = 2 };

typedef struct {
    int loss;          /* its number in catalog.h */
    int probabilities; /* the inputs are probabilities, not logits */
    int variant;       /* of focal */
    int balanced;      /* alpha is on: the number below, or an array */
    double gamma, alpha;
    double smoothing;     /* label smoothing e; 0: none */
    double own[MOST_OWN]; /* its own parameters in the catalog's order: numbers, and the places of choices */
} formula;

/* scripts/coefficients.py derives and checks these. */
static const double LOSSD_EXP_TAIL[10] = {
    0x1.5555555555556p-3, 0x1.5555555555556p-5, 0x1.11111111109b5p-7, 0x1.6c16c16c15dbbp-10, 0x1.a01a01a7c311dp-13,
    0x1.a01a01a93606fp-16, 0x1.71de0db299458p-19, 0x1.27e4d4dbdc846p-22, 0x1.af389f780df8dp-26, 0x1.1f7f108f9b2aap-29};
static const double LOSSD_LOG_TAIL[10] = {
    0x1.5555555555555p-1, 0x1.999999999a455p-2, 0x1.24924923cd2a7p-2, 0x1.c71c72766dd16p-3, 0x1.745cefc11f145p-3,
    0x1.3b18cafc5c9a1p-3, 0x1.10ab005e40b7dp-3, 0x1.ebaa64501402fp-4, 0x1.67fd4b5b53412p-4, 0x1.4b87822c076b8p-3};
static const double LOSSD_FINE_LOG_TAIL[8] = {
    0x1.5555555555555p-1, 0x1.9999999999a39p-2, 0x1.249249247694ap-2, 0x1.c71c7201b280bp-3,
    0x1.745cf8e2a0693p-3, 0x1.3b1c3bf61d111p-3, 0x1.0fbdf27fbfc74p-3, 0x1.0c09ce6dcf5ffp-3};

#define LOSSD_LOG2_E 0x1.71547652b82fep+0
#define LOSSD_LN2_HIGH 0x1.62e42feep-1 /* so few digits that its product with an exponent is exact */
#define LOSSD_LN2_LOW 0x1.a39ef35793c76p-33
#define LOSSD_TO_INTEGER 0x1.8p+52 /* adding it rounds to an integer */
#define LOSSD_FAR 800.0            /* exp(-800) is 0; a cost that is infinite is computed with as 800 */
#define LOSSD_NEAR 690.0           /* exp(-690) is not subnormal */
#define LOSSD_SQRT_HALF 0x3fe6a09e667f3bcdu
#define LOSSD_ONE 0x3ff0000000000000u
#define LOSSD_MARGIN_HIGH 0x1.0c6f7a0b5ed8dp-20 /* 1e-6, the decimal number */
#define LOSSD_MARGIN_LOW 0x1.b5a63f9a49c2cp-75

#define LOSSD_INLINE static inline __attribute__((always_inline))

LOSSD_INLINE double lossd_polynomial8(const double *c, double v) {
    double v2 = v * v, v4 = v2 * v2;
    return ((c[0] + c[1] * v) + (c[2] + c[3] * v) * v2) + ((c[4] + c[5] * v) + (c[6] + c[7] * v) * v2) * v4;
}

LOSSD_INLINE double lossd_polynomial10(const double *c, double v) {
    double v2 = v * v, v4 = v2 * v2;
    return lossd_polynomial8(c, v) + (c[8] + c[9] * v) * (v4 * v4);
}

/* ---- numbers in two doubles ---- */

typedef struct {
    double hi, lo;
} lossd_two;

LOSSD_INLINE lossd_two lossd_pair(double hi, double lo) {
    lossd_two two = {hi, lo};
    return two;
}

LOSSD_INLINE lossd_two lossd_sum(double a, double b) {
    double s = a + b, v = s - a;
    return lossd_pair(s, (a - (s - v)) + (b - v));
}

/* the same where |a| >= |b|, or a is 0 */
LOSSD_INLINE lossd_two lossd_sum_of_ordered(double a, double b) {
    double s = a + b;
    return lossd_pair(s, b - (s - a));
}

/* The upper half of the digits. */
LOSSD_INLINE double lossd_upper(double a) { return bits_to_double(double_to_bits(a) & 0xfffffffff8000000u); }

LOSSD_INLINE lossd_two lossd_product(double a, double b) {
    double p = a * b, a1 = lossd_upper(a), a2 = a - a1, b1 = lossd_upper(b), b2 = b - b1;
    return lossd_pair(p, (((a1 * b1 - p) + a1 * b2) + a2 * b1) + a2 * b2);
}

LOSSD_INLINE lossd_two lossd_plus(lossd_two a, lossd_two b) {
    lossd_two s = lossd_sum(a.hi, b.hi);
    return lossd_pair(s.hi, s.lo + (a.lo + b.lo));
}

LOSSD_INLINE lossd_two lossd_times(lossd_two a, lossd_two b) {
    lossd_two p = lossd_product(a.hi, b.hi);
    return lossd_pair(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

/* a / b, by what a / b.hi leaves */
LOSSD_INLINE lossd_two lossd_over(lossd_two a, lossd_two b) {
    double q = a.hi / b.hi;
    lossd_two p = lossd_product(q, b.hi);
    return lossd_pair(q, (((a.hi - p.hi) - p.lo) + (a.lo - q * b.lo)) / b.hi);
}

LOSSD_INLINE lossd_two lossd_minus(lossd_two a) { return lossd_pair(-a.hi, -a.lo); }

LOSSD_INLINE lossd_two lossd_choice(int first, lossd_two a, lossd_two b) {
    return lossd_pair(first ? a.hi : b.hi, first ? a.lo : b.lo);
}

/* ---- exp, log, power ---- */

/* exp(-(t + low)) as 2^-n (1 + q) */
typedef struct {
    lossd_two q;
    uint64_t n;
} lossd_exp;

LOSSD_INLINE lossd_exp lossd_exp_minus(int fine, double t, double low) {
    double near = t > LOSSD_FAR ? LOSSD_FAR : t; /* a NaN stays one */
    double shifted = near * LOSSD_LOG2_E + LOSSD_TO_INTEGER;
    double n = shifted - LOSSD_TO_INTEGER;
    double r1 = n * LOSSD_LN2_HIGH - near, r2 = n * LOSSD_LN2_LOW - low;
    lossd_exp exp;
    exp.n = double_to_bits(shifted) & 0xfff;
    if (fine) {
        lossd_two r = lossd_sum(r1, r2), square = lossd_product(r.hi, r.hi);
        lossd_two head = lossd_sum_of_ordered(r.hi, 0.5 * square.hi);
        double tail = (r.hi * square.hi) * lossd_polynomial10(LOSSD_EXP_TAIL, r.hi);
        double rest = 0.5 * square.lo + (r.lo + r.lo * r.hi);
        exp.q = lossd_sum_of_ordered(head.hi, head.lo + (rest + tail));
    } else {
        double r = r1 + r2;
        exp.q = lossd_sum_of_ordered(r, (r * r) * (0.5 + r * lossd_polynomial10(LOSSD_EXP_TAIL, r)));
    }
    return exp;
}

/* the same where neither is subnormal nor 0 */
LOSSD_INLINE double lossd_scaled_normal(double value, uint64_t n) {
    return bits_to_double(double_to_bits(value) - (n << 52));
}

/* value 2^-n, in two steps, of which the second alone may round */
LOSSD_INLINE double lossd_scaled(double value, uint64_t n) {
    uint64_t half = n >> 1;
    return value * bits_to_double((1023 - half) << 52) * bits_to_double((1023 - (n - half)) << 52);
}

/* log(1 + v + low) for -1/2 <= v <= 1 and a tiny low */
LOSSD_INLINE lossd_two lossd_log1p(double v, double low) {
    double f = v / (2.0 + v), w = f * f;
    return lossd_sum_of_ordered(v, low - f * (v - w * lossd_polynomial10(LOSSD_LOG_TAIL, w)));
}

/* A number > 0 as c 2^n, sqrt(1/2) <= c < sqrt(2); c is the number times up, times scale. */
typedef struct {
    double c, n, up, scale;
} lossd_split;

LOSSD_INLINE lossd_split lossd_split_of(double value) {
    int subnormal = value < DBL_MIN;
    double up = subnormal ? 0x1p54 : 1.0;
    uint64_t raised = double_to_bits(value * up) + (LOSSD_ONE - LOSSD_SQRT_HALF);
    uint64_t exponent = raised >> 52;
    lossd_split split;
    split.c = bits_to_double((raised & 0xfffffffffffffu) + LOSSD_SQRT_HALF);
    split.n = (bits_to_double(exponent | 0x4330000000000000u) - 0x1p52) - (subnormal ? 1077.0 : 1023.0);
    split.up = up;
    split.scale = bits_to_double((2046 - exponent) << 52);
    return split;
}

/* -log(value) for 0 < value <= 1/2; at 0 some number > 0 */
LOSSD_INLINE lossd_two lossd_minus_log(double value) {
    lossd_split split = lossd_split_of(value);
    double rest = split.n * LOSSD_LN2_LOW + lossd_log1p(split.c - 1.0, 0.0).hi;
    return lossd_sum_of_ordered(-(split.n * LOSSD_LN2_HIGH), -rest);
}

/* log((1 + f) / (1 - f)) + n log(2), for |f| <= (sqrt(2) - 1) / (sqrt(2) + 1) */
LOSSD_INLINE lossd_two lossd_fine_log_of_ratio(lossd_two f, double n) {
    double w = f.hi * f.hi;
    double tail = f.hi * (w * lossd_polynomial8(LOSSD_FINE_LOG_TAIL, w));
    lossd_two head = lossd_sum_of_ordered(n * LOSSD_LN2_HIGH, 2.0 * f.hi);
    return lossd_sum_of_ordered(head.hi, head.lo + (n * LOSSD_LN2_LOW + (2.0 * (f.lo + f.lo * w) + tail)));
}

/* log(value) for a value > 0; at 0 some number < 0 */
LOSSD_INLINE lossd_two lossd_fine_log(lossd_two value) {
    lossd_split split = lossd_split_of(value.hi);
    double low = value.lo * split.up * split.scale;
    lossd_two below = lossd_sum(split.c - 1.0, low), above = lossd_sum_of_ordered(1.0, split.c);
    return lossd_fine_log_of_ratio(lossd_over(below, lossd_pair(above.hi, above.lo + low)), split.n);
}

/* log(1 + v) for -1/2 <= v <= 1; of half or twice 1 + v where that is nearer to 1 */
LOSSD_INLINE lossd_two lossd_fine_log1p(lossd_two v) {
    int halve = v.hi > 0x1.a827999fcef34p-2, twice = v.hi < -0x1.2bec333018866p-2;
    lossd_two below = lossd_sum(v.hi, halve ? -1.0 : twice ? 0.5 : 0.0);
    lossd_two above = lossd_sum(v.hi, halve ? 3.0 : twice ? 1.5 : 2.0);
    lossd_two f = lossd_over(lossd_pair(below.hi, below.lo + v.lo), lossd_pair(above.hi, above.lo + v.lo));
    return lossd_fine_log_of_ratio(f, halve ? 1.0 : twice ? -1.0 : 0.0);
}

/* value^gamma for a value >= 0 and gamma > 0 */
LOSSD_INLINE double lossd_power(lossd_two value, double gamma) {
    lossd_two exponent = lossd_times(lossd_fine_log(value), lossd_pair(-gamma, 0.0));
    lossd_exp exp = lossd_exp_minus(0, exponent.hi, exponent.lo);
    double power = lossd_scaled(1.0 + exp.q.hi, exp.n);
    return value.hi > 0.0 ? power : 0.0;
}

/* the same for the gammas that need no logarithm */
LOSSD_INLINE double lossd_simple_power(lossd_two value, double gamma) {
    double first = gamma == 0.5 || gamma == 1.0 ? 1.0
                   : gamma == 1.5               ? sqrt(value.hi)
                   : gamma == 2.0               ? value.hi
                                                : value.hi * value.hi;
    return gamma == 0.5 ? sqrt(fabs(value.hi + value.lo)) : first * fabs(value.hi + gamma * value.lo);
}

/* ---- elements ---- */

/* A target after smoothing, and what stands for 1 - y. */
typedef struct {
    lossd_two y, z;
} lossd_target;

LOSSD_INLINE lossd_target lossd_target_of(double y, double smoothing) {
    lossd_two keep = lossd_sum_of_ordered(1.0, -smoothing), half = lossd_pair(smoothing / 2.0, 0.0);
    lossd_target target = {lossd_plus(lossd_times(keep, lossd_pair(y, 0.0)), half),
                           lossd_plus(lossd_times(keep, lossd_sum_of_ordered(1.0, -y)), half)};
    return target;
}

/* The second double stays where care is taken, and is else 0. */
LOSSD_INLINE lossd_two lossd_if(int careful, lossd_two a) { return lossd_pair(a.hi, careful ? a.lo : 0.0); }

/* An input, seen from the class that it speaks for: the likely one. */
typedef struct {
    int positive;       /* whether that is the positive class */
    lossd_two likely;   /* its cost, -log of its probability */
    lossd_two unlikely; /* the other class's; where it is infinite, some number > 0 */
    lossd_two small;    /* logits: exp(-|x|); probabilities: the unlikely class's probability */
} lossd_input;

LOSSD_INLINE lossd_input lossd_logit(int fine, int careful, int near, double x) {
    double t = fabs(x);
    lossd_exp exp = lossd_exp_minus(fine, t, 0.0);
    lossd_two one = lossd_sum_of_ordered(1.0, exp.q.hi);
    double low = lossd_scaled(one.lo + exp.q.lo, exp.n);
    lossd_input input;
    input.positive = x > 0.0;
    double high = near ? lossd_scaled_normal(one.hi, exp.n) : lossd_scaled(one.hi, exp.n);
    input.small = lossd_if(careful, lossd_pair(high, low));
    input.likely = lossd_if(careful, lossd_log1p(input.small.hi, input.small.lo));
    lossd_two size = lossd_pair(!near && t > DBL_MAX ? LOSSD_FAR : t, 0.0);
    input.unlikely = lossd_if(careful, lossd_plus(size, input.likely));
    return input;
}

LOSSD_INLINE lossd_input lossd_probability(int careful, double p) {
    lossd_input input;
    input.positive = p > 0.5;
    input.small = lossd_pair(input.positive ? 1.0 - p : fabs(p), 0.0);
    input.likely = lossd_if(careful, lossd_minus(lossd_log1p(-input.small.hi, 0.0)));
    input.unlikely = lossd_if(careful, lossd_minus_log(input.small.hi));
    return input;
}

/* near: a logit is known to be less than LOSSD_NEAR in size */
LOSSD_INLINE lossd_input lossd_input_of(int probabilities, int fine, int careful, int near, double x) {
    return probabilities ? lossd_probability(careful, x) : lossd_logit(fine, careful, near, x);
}

LOSSD_INLINE double lossd_binary_cross_entropy(lossd_input input, int careful, lossd_target target, double k) {
    lossd_two share = lossd_product(k, target.y.hi);
    share.lo = share.lo + k * target.y.lo;
    lossd_two right = lossd_choice(input.positive, share, target.z);
    lossd_two wrong = lossd_choice(input.positive, target.z, share);
    double low = (right.lo * input.likely.hi + wrong.lo * input.unlikely.hi) +
                 (right.hi * input.likely.lo + wrong.hi * input.unlikely.lo);
    lossd_two sum = lossd_sum(right.hi * input.likely.hi, wrong.hi * input.unlikely.hi);
    return sum.hi + (careful & (sum.hi <= DBL_MAX) ? sum.lo + low : 0.0);
}

/* over / (1 + e) */
LOSSD_INLINE lossd_two lossd_miss_of_logit(int fine, int careful, lossd_two over, lossd_two e) {
    lossd_two under = lossd_sum_of_ordered(1.0, e.hi);
    double miss = over.hi / under.hi;
    lossd_two back = lossd_product(miss, under.hi);
    double rest = ((over.hi - back.hi) - back.lo) + (over.lo - miss * (under.lo + e.lo));
    /* 1 / (1 + e) to within a tenth is enough unless it is to be fine */
    double low = fine ? rest / under.hi : rest * (1.457 - 0.5 * under.hi);
    return lossd_pair(miss, careful ? low : 0.0);
}

/* y q + z p, or |y q - z p| */
LOSSD_INLINE lossd_two lossd_miss(int probabilities, int quality, int fine, int careful, lossd_input input,
                                  lossd_target target) {
    lossd_two right = lossd_choice(input.positive, target.y, target.z);
    lossd_two wrong = lossd_choice(input.positive, target.z, target.y);
    if (quality) right = lossd_minus(right);
    if (probabilities) wrong = lossd_times(wrong, lossd_sum_of_ordered(1.0, -input.small.hi));
    lossd_two miss = lossd_plus(wrong, lossd_times(right, input.small));
    if (!probabilities) miss = lossd_miss_of_logit(fine, careful, miss, input.small);
    if (quality) {
        miss = lossd_sum(miss.hi, miss.lo);
        miss = lossd_choice(miss.hi < 0.0, lossd_minus(miss), miss);
    }
    return miss;
}

/* The cross entropy without what no care is taken for. */
LOSSD_INLINE double lossd_plain_cross_entropy(lossd_input input, double y) {
    double z = 1.0 - y;
    return (input.positive ? y : z) * input.likely.hi + (input.positive ? z : y) * input.unlikely.hi;
}

/* Both for a target of 0 or 1, without what then is nothing. */
LOSSD_INLINE double lossd_hard_cross_entropy(int careful, lossd_input input, double y) {
    double right = input.positive ? y : 1.0 - y;
    lossd_two cost = lossd_choice(right > 0.0, input.likely, input.unlikely);
    return careful ? cost.hi + cost.lo : cost.hi;
}

LOSSD_INLINE lossd_two lossd_hard_miss(int probabilities, int careful, lossd_input input, double y) {
    double right = input.positive ? y : 1.0 - y;
    lossd_two wrong = probabilities ? lossd_sum_of_ordered(1.0, -input.small.hi) : lossd_pair(1.0, 0.0);
    lossd_two miss = lossd_choice(right > 0.0, input.small, wrong);
    return probabilities ? miss : lossd_miss_of_logit(0, careful, miss, input.small);
}

/* 1 + 1e-6 - exp(-BCE) */
LOSSD_INLINE lossd_two lossd_fine_exp_miss(int probabilities, double x, lossd_input input, lossd_target target,
                                           double k) {
    lossd_two likely, unlikely, share = lossd_times(target.y, lossd_pair(k, 0.0)), right, wrong;
    int certain;
    if (probabilities) {
        certain = input.small.hi == 0.0;
        likely = lossd_minus(lossd_fine_log1p(lossd_minus(input.small)));
        unlikely = lossd_minus(lossd_fine_log(input.small));
    } else {
        double t = fabs(x);
        certain = t > DBL_MAX;
        likely = lossd_fine_log1p(input.small);
        unlikely = lossd_plus(lossd_pair(certain ? LOSSD_FAR : t, 0.0), likely);
    }
    right = lossd_choice(input.positive, share, target.z);
    wrong = lossd_choice(input.positive, target.z, share);
    lossd_two loss = lossd_plus(lossd_times(right, likely), lossd_times(wrong, unlikely));
    int near = (loss.hi < 60.0) & ((certain ? loss.hi : 0.0) <= 0.0); /* beyond, exp(-BCE) is nothing */
    lossd_exp exp = lossd_exp_minus(1, near ? loss.hi : 60.0, near ? loss.lo : 0.0);
    double scale = bits_to_double((1023 - exp.n) << 52);
    lossd_two part = lossd_pair(-scale * exp.q.hi, -scale * exp.q.lo);
    lossd_two gone = lossd_plus(lossd_sum_of_ordered(1.0, -scale), part); /* 1 - scale (1 + q) */
    return lossd_plus(gone, lossd_pair(LOSSD_MARGIN_HIGH, LOSSD_MARGIN_LOW));
}

/* coefficient times value, 0 times infinity being 0 */
LOSSD_INLINE double lossd_share(double coefficient, double value) {
    double product = coefficient * value;
    return (coefficient == 0.0) & (value > DBL_MAX) ? 0.0 : product;
}

/* The loss, or infinity where the input is certain of a class that something speaks against. */
LOSSD_INLINE double lossd_limit(int probabilities, double x, double against, double loss) {
    int certain = probabilities ? (x == 0.0) | (x == 1.0) : fabs(x) > DBL_MAX;
    return certain & (against > 0.0) ? INFINITY : loss;
}

/* ---- loops; the flags are numbers that the compiler knows ---- */

/* What the steps of one call leave for the next. */
typedef struct {
    double y[LOSSD_PIECE], z[LOSSD_PIECE], y_low[LOSSD_PIECE], z_low[LOSSD_PIECE]; /* targets, after smoothing */
    double k[LOSSD_PIECE], a[LOSSD_PIECE];
    double miss[LOSSD_PIECE], low[LOSSD_PIECE];
} lossd_memory;

/* The most common cases each in one loop: no pos_weight, no smoothing; the hard ones for targets of 0 and 1. */
LOSSD_INLINE void lossd_plain_bce(int probabilities, int n, const double *restrict x, const double *restrict y,
                                  double *restrict value) {
    for (int i = 0; i < n; i++) {
        double loss = lossd_plain_cross_entropy(lossd_input_of(probabilities, 0, 0, 0, x[i]), y[i]);
        value[i] = lossd_limit(probabilities, x[i], loss, loss);
    }
}

LOSSD_INLINE void lossd_hard_bce(int n, const double *restrict x, const double *restrict y, double *restrict value) {
    for (int i = 0; i < n; i++) value[i] = lossd_hard_cross_entropy(0, lossd_input_of(0, 0, 0, 1, x[i]), y[i]);
}

LOSSD_INLINE void lossd_hard_focal(int probabilities, double gamma, double alpha, int n, const double *restrict x,
                                   const double *restrict y, double *restrict value) {
    int careful = gamma > 1.5;
    for (int i = 0; i < n; i++) {
        double balance = y[i] > 0.0 ? alpha : 1.0 - alpha;
        lossd_input input = lossd_input_of(probabilities, 0, careful, 1, x[i]);
        double loss = lossd_hard_cross_entropy(careful, input, y[i]);
        double power = lossd_simple_power(lossd_hard_miss(probabilities, careful, input, y[i]), gamma);
        double product = balance * (power * loss); /* where something speaks against a certain input, power is 1 */
        value[i] = probabilities ? lossd_limit(1, x[i], product, product) : product;
    }
}

/* Whether all are 0 or 1. */
static int lossd_are_0_or_1(int n, const double *y) {
    int64_t soft = 0;
    for (int i = 0; i < n; i++) soft |= (y[i] != 0.0) & (y[i] != 1.0);
    return !soft;
}

/* Whether those of hard targets serve: no logit of LOSSD_NEAR or more, or NaN, and targets of 0 and 1. */
static int lossd_all_hard(int n, const double *restrict x, const double *restrict y) {
    int64_t other = 0;
    for (int i = 0; i < n; i++) other |= (!(fabs(x[i]) < LOSSD_NEAR)) | ((y[i] != 0.0) & (y[i] != 1.0));
    return !other;
}

LOSSD_INLINE void lossd_cross_entropies(int probabilities, int limit, int careful, int n, const double *restrict x,
                                        const double *restrict y, const double *restrict z,
                                        const double *restrict y_low, const double *restrict z_low,
                                        const double *restrict k, double *restrict value) {
    for (int i = 0; i < n; i++) {
        lossd_input input = lossd_input_of(probabilities, 0, careful | (k[i] != 1.0), 0, x[i]);
        lossd_target target = {{y[i], y_low[i]}, {z[i], z_low[i]}};
        double loss = lossd_binary_cross_entropy(input, careful | (k[i] != 1.0), target, k[i]);
        value[i] = limit ? lossd_limit(probabilities, x[i], loss, loss) : loss;
    }
}

LOSSD_INLINE void lossd_misses(int probabilities, int variant, int fine, int rough, int n, const double *restrict x,
                               const double *restrict y, const double *restrict z, const double *restrict y_low,
                               const double *restrict z_low, const double *restrict k, double *restrict value,
                               double *restrict miss, double *restrict low) {
    for (int i = 0; i < n; i++) {
        int careful = rough ? (k[i] != 1.0) | ((y[i] != 0.0) & (y[i] != 1.0)) : 1;
        lossd_input input = lossd_input_of(probabilities, fine, careful, 0, x[i]);
        lossd_target target = {{y[i], y_low[i]}, {z[i], z_low[i]}};
        lossd_two each = variant == LOSSD_EXP ? lossd_fine_exp_miss(probabilities, x[i], input, target, k[i])
                                              : lossd_miss(probabilities, variant == LOSSD_QUALITY, fine, careful,
                                                           input, target);
        value[i] = lossd_binary_cross_entropy(input, careful, target, k[i]);
        miss[i] = each.hi;
        low[i] = each.lo;
    }
}

/* miss^gamma, in place */
static void lossd_powers(double gamma, int n, double *restrict miss, double *restrict low) {
#define LOSSD_POWER(power)                                           \
    for (int i = 0; i < n; i++) {                                    \
        lossd_two each = {miss[i], low[i]};                          \
        miss[i] = power;                                             \
    }
    if (gamma == 0.0)
        LOSSD_POWER((each.hi = 1.0))
    else if (gamma == 0.5)
        LOSSD_POWER(lossd_simple_power(each, 0.5))
    else if (gamma == 1.0)
        LOSSD_POWER(lossd_simple_power(each, 1.0))
    else if (gamma == 1.5)
        LOSSD_POWER(lossd_simple_power(each, 1.5))
    else if (gamma == 2.0)
        LOSSD_POWER(lossd_simple_power(each, 2.0))
    else if (gamma == 3.0)
        LOSSD_POWER(lossd_simple_power(each, 3.0))
    else
        LOSSD_POWER(lossd_power(each, gamma))
}

LOSSD_INLINE void lossd_products(int probabilities, int even, int n, const double *restrict x,
                                 const double *restrict y, const double *restrict z, const double *restrict a,
                                 const double *restrict power, double *restrict value) {
    for (int i = 0; i < n; i++) {
        double loss = value[i], balance = even ? a[i] : y[i] * a[i] + z[i] * (1.0 - a[i]);
        double product = lossd_share(balance, lossd_share(power[i], loss));
        value[i] = lossd_limit(probabilities, x[i], balance > 0.0 ? loss : 0.0, product);
    }
}

static void lossd_targets(double smoothing, int n, const double *restrict y, lossd_memory *restrict to) {
    if (smoothing == 0.0)
        for (int i = 0; i < n; i++) {
            lossd_two z = lossd_sum_of_ordered(1.0, -y[i]);
            to->y[i] = y[i];
            to->y_low[i] = 0.0;
            to->z[i] = z.hi;
            to->z_low[i] = z.lo;
        }
    else
        for (int i = 0; i < n; i++) {
            lossd_target target = lossd_target_of(y[i], smoothing);
            to->y[i] = target.y.hi;
            to->y_low[i] = target.y.lo;
            to->z[i] = target.z.hi;
            to->z_low[i] = target.z.lo;
        }
}

LOSSD_INLINE void lossd_piece(int bce, const formula *how, int n, const double *restrict x, const double *restrict y,
                              const double *restrict k, const double *restrict a, double *restrict value) {
    lossd_memory at;
    double gamma = how->gamma;
    int sigmoid = how->variant == LOSSD_SIGMOID;
    int even = !how->balanced || how->variant == LOSSD_EXP; /* the balance is alpha itself, or 1 */
    int simple = gamma == 0.5 || gamma == 1.0 || gamma == 1.5 || gamma == 2.0 || gamma == 3.0;
    int plain = !k && how->smoothing == 0.0;
    if (bce && plain) {
        if (how->probabilities)
            lossd_plain_bce(1, n, x, y, value);
        else if (lossd_all_hard(n, x, y))
            lossd_hard_bce(n, x, y, value);
        else
            lossd_plain_bce(0, n, x, y, value);
        return;
    }
    if (plain && sigmoid && simple && !even && !a && lossd_all_hard(n, x, y)) {
#define LOSSD_HARD(probabilities, gamma) lossd_hard_focal(probabilities, gamma, how->alpha, n, x, y, value)
#define LOSSD_HARDS(probabilities)           \
    do {                                     \
        if (gamma == 1.5)                    \
            LOSSD_HARD(probabilities, 1.5);  \
        else if (gamma == 2.0)               \
            LOSSD_HARD(probabilities, 2.0);  \
        else if (gamma == 3.0)               \
            LOSSD_HARD(probabilities, 3.0);  \
        else if (gamma == 1.0)               \
            LOSSD_HARD(probabilities, 1.0);  \
        else                                 \
            LOSSD_HARD(probabilities, 0.5);  \
    } while (0)
        if (how->probabilities)
            LOSSD_HARDS(1);
        else
            LOSSD_HARDS(0);
        return;
    }
    lossd_targets(how->smoothing, n, y, &at);
    for (int i = 0; i < n; i++) at.k[i] = k ? k[i] : 1.0;
#define LOSSD_CROSS_ENTROPIES(probabilities, limit)                                                          \
    lossd_cross_entropies(probabilities, limit, how->smoothing != 0.0, n, x, at.y, at.z, at.y_low, at.z_low, \
                          at.k, value)
#define LOSSD_MISSES(probabilities, variant, fine, rough)                                                           \
    lossd_misses(probabilities, variant, fine, rough, n, x, at.y, at.z, at.y_low, at.z_low, at.k, value, at.miss, at.low)
#define LOSSD_FIRST(probabilities)                                                  \
    do {                                                                            \
        if (bce)                                                                    \
            LOSSD_CROSS_ENTROPIES(probabilities, 1); \
        else if (gamma == 0.0)                                                      \
            LOSSD_CROSS_ENTROPIES(probabilities, 0); \
        else if (how->variant == LOSSD_EXP)                                         \
            LOSSD_MISSES(probabilities, LOSSD_EXP, 1, 0);                           \
        else if (sigmoid && simple && gamma <= 1.5)                                 \
            LOSSD_MISSES(probabilities, LOSSD_SIGMOID, 0, 1);                       \
        else if (sigmoid && simple)                                                 \
            LOSSD_MISSES(probabilities, LOSSD_SIGMOID, 0, 0);                       \
        else if (sigmoid)                                                           \
            LOSSD_MISSES(probabilities, LOSSD_SIGMOID, 1, 0);                       \
        else if (simple)                                                            \
            LOSSD_MISSES(probabilities, LOSSD_QUALITY, 0, 0);                       \
        else                                                                        \
            LOSSD_MISSES(probabilities, LOSSD_QUALITY, 1, 0);                       \
    } while (0)
    if (how->probabilities)
        LOSSD_FIRST(1);
    else
        LOSSD_FIRST(0);
    if (bce) return;
    lossd_powers(gamma, n, at.miss, at.low);
    for (int i = 0; i < n; i++) at.a[i] = !how->balanced ? 1.0 : a ? a[i] : how->alpha;
    if (how->probabilities && even)
        lossd_products(1, 1, n, x, at.y, at.z, at.a, at.miss, value);
    else if (how->probabilities)
        lossd_products(1, 0, n, x, at.y, at.z, at.a, at.miss, value);
    else if (even)
        lossd_products(0, 1, n, x, at.y, at.z, at.a, at.miss, value);
    else
        lossd_products(0, 0, n, x, at.y, at.z, at.a, at.miss, value);
}

/* The losses of up to LOSSD_PIECE elements; see losses.h. */
static void lossd_bce(const formula *how, int n, const double *restrict x, const double *restrict y,
                      const double *restrict k, const double *restrict a, double *restrict value) {
    lossd_piece(1, how, n, x, y, k, a, value);
}

static void lossd_focal(const formula *how, int n, const double *restrict x, const double *restrict y,
                        const double *restrict k, const double *restrict a, double *restrict value) {
    lossd_piece(0, how, n, x, y, k, a, value);
}
#endif

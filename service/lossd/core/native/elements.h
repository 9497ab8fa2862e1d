/* The element losses for CPUs: the steps of core/elements.py, which says what they mean, bit for bit.
 *
 * Only + - * / sqrt, comparisons and moves of bits, each rounded on its own (-ffp-contract=off), so that every
 * compiler, optimization and vector width gives the same bits. Nothing branches on data, so that the loops
 * vectorize: a condition is a choice between two computed values.
 */
#ifndef LOSSD_ELEMENTS_H
#define LOSSD_ELEMENTS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LOSSD_BLOCK = 1024 }; /* the most elements of one call */
enum { LOSSD_BCE = 0, LOSSD_FOCAL = 1 };
enum { LOSSD_SIGMOID = 0, LOSSD_EXP = 1, LOSSD_QUALITY = 2 };

typedef struct {
    int loss;            /* LOSSD_BCE, LOSSD_FOCAL */
    int probabilities;   /* the inputs are probabilities, not logits */
    int variant;         /* of focal */
    int balanced;        /* alpha is on: the number below, or an array */
    double gamma, alpha;
    double smoothing;    /* label smoothing e; 0: none */
} formula;

#define LOSSD_INLINE static inline __attribute__((always_inline))

/* scripts/coefficients.py derives and checks these. */
static const double LOSSD_P_EXP[10] = {
    0x1.5555555555556p-3,  0x1.5555555555556p-5,  0x1.11111111109b4p-7,  0x1.6c16c16c15dc9p-10, 0x1.a01a01a7c3295p-13,
    0x1.a01a01a934cebp-16, 0x1.71de0db2376c5p-19, 0x1.27e4d4d7da9eap-22, 0x1.af38a05de0ed3p-26, 0x1.1f7f20647c7cbp-29};
static const double LOSSD_P_LOG[10] = {
    0x1.5555555555555p-1, 0x1.999999999a455p-2, 0x1.24924923cd3c8p-2, 0x1.c71c72765f6acp-3, 0x1.745cefc3e99bdp-3,
    0x1.3b18caaec9103p-3, 0x1.10ab0550ca453p-3, 0x1.ebaa0639a5373p-4, 0x1.67ff2d1c026a4p-4, 0x1.4b858146f2246p-3};
static const double LOSSD_P_FINE_LOG[8] = {
    0x1.5555555555555p-1, 0x1.9999999999a39p-2, 0x1.249249247694ap-2, 0x1.c71c7201b280bp-3,
    0x1.745cf8e2a0693p-3, 0x1.3b1c3bf61d111p-3, 0x1.0fbdf27fbfc74p-3, 0x1.0c09ce6dcf5ffp-3};

#define LOSSD_LOG2_E 0x1.71547652b82fep+0
#define LOSSD_LN2_HIGH 0x1.62e42feep-1 /* so few digits that its product with an exponent is exact */
#define LOSSD_LN2_LOW 0x1.a39ef35793c76p-33
#define LOSSD_TO_INTEGER 0x1.8p+52 /* adding it rounds to an integer */
#define LOSSD_FAR 800.0            /* exp(-800) is 0; an infinite logit's cost is computed as 800 */
#define LOSSD_GREATEST 0x1.fffffffffffffp+1023
#define LOSSD_LEAST_NORMAL 0x1p-1022
#define LOSSD_SQRT_HALF 0x3fe6a09e667f3bcdu
#define LOSSD_ONE 0x3ff0000000000000u
#define LOSSD_MARGIN_HIGH 0x1.0c6f7a0b5ed8dp-20 /* 1e-6, the decimal number */
#define LOSSD_MARGIN_LOW 0x1.b5a63f9a49c2cp-75

LOSSD_INLINE uint64_t lossd_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return bits;
}

LOSSD_INLINE double lossd_of_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

LOSSD_INLINE double lossd_polynomial8(const double *c, double v) {
    double v2 = v * v, v4 = v2 * v2;
    return ((c[0] + c[1] * v) + (c[2] + c[3] * v) * v2) + ((c[4] + c[5] * v) + (c[6] + c[7] * v) * v2) * v4;
}

LOSSD_INLINE double lossd_polynomial10(const double *c, double v) {
    double v2 = v * v, v4 = v2 * v2;
    return lossd_polynomial8(c, v) + (c[8] + c[9] * v) * (v4 * v4);
}

/* ---- in one double ---- */

/* exp(-t) as 2^-n (1 + q), for t >= -0.3. */
typedef struct {
    double q;
    uint64_t n;
} lossd_split_exp;

LOSSD_INLINE lossd_split_exp lossd_exp_parts(double t, double low) {
    double far = t < LOSSD_FAR ? t : LOSSD_FAR;
    double shifted = far * LOSSD_LOG2_E + LOSSD_TO_INTEGER;
    double n = shifted - LOSSD_TO_INTEGER;
    double r = (n * LOSSD_LN2_HIGH - far) + (n * LOSSD_LN2_LOW - low);
    double q = r + (r * r) * (0.5 + r * lossd_polynomial10(LOSSD_P_EXP, r));
    lossd_split_exp parts = {q, lossd_bits(shifted) & 0xfff};
    return parts;
}

/* value 2^-n, in two steps, of which the second alone may round. */
LOSSD_INLINE double lossd_scaled(double value, uint64_t n) {
    uint64_t half = n >> 1;
    return value * lossd_of_bits((1023 - half) << 52) * lossd_of_bits((1023 - (n - half)) << 52);
}

LOSSD_INLINE double lossd_exp_minus(double t) {
    lossd_split_exp parts = lossd_exp_parts(t, 0.0);
    return lossd_scaled(1.0 + parts.q, parts.n);
}

/* log((1 + f) / (1 - f)) for |f| <= 1/3 */
LOSSD_INLINE double lossd_log_ratio(double f) {
    double w = f * f;
    return 2.0 * f + f * (w * lossd_polynomial10(LOSSD_P_LOG, w));
}

/* A number > 0 as c 2^n, sqrt(1/2) <= c < sqrt(2); c is the number times scale, twice where it is subnormal. */
typedef struct {
    double c, n, scale, up;
} lossd_split;

LOSSD_INLINE lossd_split lossd_split_of(double value) {
    int small = value < LOSSD_LEAST_NORMAL;
    double up = small ? 0x1p54 : 1.0;
    uint64_t raised = lossd_bits(value * up) + (LOSSD_ONE - LOSSD_SQRT_HALF);
    uint64_t exponent = raised >> 52;
    lossd_split split;
    split.c = lossd_of_bits((raised & 0xfffffffffffffu) + LOSSD_SQRT_HALF);
    split.n = (lossd_of_bits(exponent | 0x4330000000000000u) - 0x1p52) - (small ? 1077.0 : 1023.0);
    split.scale = lossd_of_bits((2046 - exponent) << 52);
    split.up = up;
    return split;
}

/* -log(value) for 0 < value <= 1/2; at 0 some number > 0 */
LOSSD_INLINE double lossd_minus_log(double value) {
    lossd_split split = lossd_split_of(value);
    double ratio = lossd_log_ratio((split.c - 1.0) / (split.c + 1.0));
    return -(split.n * LOSSD_LN2_HIGH) - (split.n * LOSSD_LN2_LOW + ratio);
}

/* ---- in two doubles, hi + lo ---- */

typedef struct {
    double hi, lo;
} lossd_two;

LOSSD_INLINE lossd_two lossd_two_of(double hi, double lo) {
    lossd_two two = {hi, lo};
    return two;
}

/* a + b where |a| >= |b|, or a is 0 */
LOSSD_INLINE lossd_two lossd_sum_of_ordered(double a, double b) {
    double s = a + b;
    return lossd_two_of(s, b - (s - a));
}

LOSSD_INLINE lossd_two lossd_sum(double a, double b) {
    double s = a + b, v = s - a;
    return lossd_two_of(s, (a - (s - v)) + (b - v));
}

LOSSD_INLINE double lossd_upper_half(double a) { return lossd_of_bits(lossd_bits(a) & 0xfffffffff8000000u); }

LOSSD_INLINE lossd_two lossd_product(double a, double b) {
    double ah = lossd_upper_half(a), al = a - ah, bh = lossd_upper_half(b), bl = b - bh, p = a * b;
    return lossd_two_of(p, ((ah * bh - p) + ah * bl + al * bh) + al * bl);
}

LOSSD_INLINE lossd_two lossd_times(lossd_two a, double b) {
    lossd_two p = lossd_product(a.hi, b);
    return lossd_two_of(p.hi, p.lo + a.lo * b);
}

LOSSD_INLINE lossd_two lossd_plus(lossd_two a, lossd_two b) {
    lossd_two s = lossd_sum(a.hi, b.hi);
    return lossd_sum_of_ordered(s.hi, s.lo + (a.lo + b.lo));
}

LOSSD_INLINE lossd_two lossd_quotient(lossd_two a, lossd_two b) {
    double q = a.hi / b.hi;
    lossd_two p = lossd_product(q, b.hi);
    double rest = ((a.hi - p.hi) - p.lo) + (a.lo - q * b.lo);
    return lossd_sum_of_ordered(q, rest / b.hi);
}

/* exp(-(t + low)) as 2^-n (1 + q) */
typedef struct {
    lossd_two q;
    uint64_t n;
} lossd_split_fine_exp;

LOSSD_INLINE lossd_split_fine_exp lossd_fine_exp_parts(double t, double low) {
    double far = t < LOSSD_FAR ? t : LOSSD_FAR;
    double shifted = far * LOSSD_LOG2_E + LOSSD_TO_INTEGER;
    double n = shifted - LOSSD_TO_INTEGER;
    lossd_two r = lossd_sum(n * LOSSD_LN2_HIGH - far, n * LOSSD_LN2_LOW - low);
    lossd_two square = lossd_product(r.hi, r.hi);
    lossd_two head = lossd_sum_of_ordered(r.hi, 0.5 * square.hi);
    double rest = (r.hi * square.hi) * lossd_polynomial10(LOSSD_P_EXP, r.hi);
    lossd_split_fine_exp parts;
    parts.q = lossd_sum_of_ordered(head.hi, head.lo + (0.5 * square.lo + (r.lo + r.lo * r.hi) + rest));
    parts.n = lossd_bits(shifted) & 0xfff;
    return parts;
}

LOSSD_INLINE lossd_two lossd_fine_exp_minus(double t) {
    lossd_split_fine_exp parts = lossd_fine_exp_parts(t, 0.0);
    lossd_two one = lossd_sum_of_ordered(1.0, parts.q.hi);
    lossd_two sum = lossd_sum_of_ordered(one.hi, one.lo + parts.q.lo);
    return lossd_two_of(lossd_scaled(sum.hi, parts.n), lossd_scaled(sum.lo, parts.n));
}

/* log((1 + f) / (1 - f)) for |f| <= (sqrt(2) - 1) / (sqrt(2) + 1), plus n ln(2) */
LOSSD_INLINE lossd_two lossd_fine_log_ratio(lossd_two f, double n) {
    double w = f.hi * f.hi;
    double rest = 2.0 * (f.lo + f.lo * w) + f.hi * (w * lossd_polynomial8(LOSSD_P_FINE_LOG, w));
    lossd_two head = lossd_sum_of_ordered(n * LOSSD_LN2_HIGH, 2.0 * f.hi);
    return lossd_sum_of_ordered(head.hi, head.lo + (n * LOSSD_LN2_LOW + rest));
}

/* log(value) for a value > 0 */
LOSSD_INLINE lossd_two lossd_fine_log(lossd_two value) {
    lossd_split split = lossd_split_of(value.hi);
    double low = value.lo * split.up * split.scale;
    lossd_two below = lossd_sum(split.c - 1.0, low), above = lossd_sum_of_ordered(1.0, split.c);
    return lossd_fine_log_ratio(lossd_quotient(below, lossd_two_of(above.hi, above.lo + low)), split.n);
}

/* log(1 + value), -1/2 <= value <= 1; halved, or doubled, where that is nearer to 1 */
LOSSD_INLINE lossd_two lossd_fine_log1p(lossd_two value) {
    int halved = value.hi > 0x1.a827999fcef32p-2, doubled = value.hi < -0x1.2bec333018866p-2;
    double off = halved ? 1.0 : (doubled ? -0.5 : 0.0);
    double more = halved ? 3.0 : (doubled ? 1.5 : 2.0);
    lossd_two below = lossd_sum(value.hi, -off), above = lossd_sum(value.hi, more);
    below.lo = below.lo + value.lo;
    above.lo = above.lo + value.lo;
    return lossd_fine_log_ratio(lossd_quotient(below, above), halved ? 1.0 : (doubled ? -1.0 : 0.0));
}

/* value^gamma for value >= 0 and gamma > 0 */
LOSSD_INLINE double lossd_power(double hi, double lo, double gamma) {
    lossd_two exponent = lossd_times(lossd_fine_log(lossd_two_of(hi, lo)), -gamma);
    lossd_split_exp parts = lossd_exp_parts(exponent.hi, exponent.lo);
    double power = lossd_scaled(1.0 + parts.q, parts.n);
    return hi > 0.0 ? power : 0.0;
}

/* ---- elements ---- */

/* coefficient times value, 0 against infinity being 0 */
LOSSD_INLINE double lossd_share(double coefficient, double value) {
    double product = coefficient * value;
    return (coefficient == 0.0) & (value > LOSSD_GREATEST) ? 0.0 : product;
}

/* An input, seen from the class that it speaks for: the likely one. */
typedef struct {
    double likely;           /* the cost of the likely class, -log of its probability */
    double unlikely;         /* of the other */
    double small;            /* logits: e = exp(-|x|); probabilities: the unlikely class's probability */
    int positive;            /* whether the positive class is the likely one */
    int certain;             /* whether the other has no probability: its cost, infinite, is some number > 0 */
} lossd_input;

LOSSD_INLINE lossd_input lossd_logit(double x) {
    double t = fabs(x);
    lossd_input input;
    input.small = lossd_exp_minus(t);
    input.likely = lossd_log_ratio(input.small / (2.0 + input.small));
    input.certain = t > LOSSD_GREATEST;
    input.unlikely = (input.certain ? LOSSD_FAR : t) + input.likely;
    input.positive = x > 0.0;
    return input;
}

LOSSD_INLINE lossd_input lossd_probability(double p) {
    double q = 1.0 - p;
    lossd_input input;
    input.positive = p > 0.5;
    input.small = input.positive ? q : p;
    input.likely = lossd_log_ratio(input.small / (2.0 - input.small));
    input.unlikely = lossd_minus_log(input.small);
    input.certain = input.small == 0.0;
    return input;
}

LOSSD_INLINE lossd_input lossd_input_of(int probabilities, double x) {
    return probabilities ? lossd_probability(x) : lossd_logit(x);
}

LOSSD_INLINE double lossd_cross_entropy(lossd_input input, double y, double z, double k) {
    double share = k * y;
    return (input.positive ? share : z) * input.likely + (input.positive ? z : share) * input.unlikely;
}

/* y q + z p, or |y q - z p| */
LOSSD_INLINE double lossd_miss(int probabilities, int quality, lossd_input input, double y, double z) {
    double right = input.positive ? y : z, wrong = input.positive ? z : y;
    double small = right * input.small;
    double large = probabilities ? wrong * (1.0 - input.small) : wrong;
    double over = quality ? fabs(large - small) : large + small;
    return probabilities ? over : over / (1.0 + input.small);
}

LOSSD_INLINE lossd_two lossd_fine_miss(int probabilities, int quality, double x, double y, double z) {
    lossd_two small, large, under;
    int positive;
    double right, wrong;
    if (probabilities) {
        positive = x > 0.5;
        small = positive ? lossd_two_of(1.0 - x, 0.0) : lossd_two_of(x, 0.0);
        large = lossd_sum_of_ordered(1.0, -small.hi);
        under = lossd_two_of(1.0, 0.0);
    } else {
        positive = x > 0.0;
        small = lossd_fine_exp_minus(fabs(x));
        large = lossd_two_of(1.0, 0.0);
        under = lossd_sum_of_ordered(1.0, small.hi);
        under.lo = under.lo + small.lo;
    }
    right = positive ? y : z;
    wrong = positive ? z : y;
    small = lossd_times(small, quality ? -right : right);
    large = lossd_times(large, wrong);
    lossd_two over = lossd_plus(large, small);
    if (quality) {
        int negative = over.hi < 0.0;
        over = lossd_two_of(negative ? -over.hi : over.hi, negative ? -over.lo : over.lo);
    }
    return probabilities ? over : lossd_quotient(over, under);
}

/* 1 + 1e-6 - exp(-BCE) */
LOSSD_INLINE lossd_two lossd_fine_exp_miss(int probabilities, double x, double y, double z, double k) {
    lossd_two likely, unlikely;
    int positive, certain;
    double share = k * y;
    if (probabilities) {
        double q = 1.0 - x;
        positive = x > 0.5;
        double small = positive ? q : x;
        certain = small == 0.0;
        likely = lossd_fine_log1p(lossd_two_of(-small, 0.0));
        likely = lossd_two_of(-likely.hi, -likely.lo);
        unlikely = lossd_fine_log(lossd_two_of(small, 0.0));
        unlikely = lossd_two_of(-unlikely.hi, -unlikely.lo);
    } else {
        double t = fabs(x);
        positive = x > 0.0;
        certain = t > LOSSD_GREATEST;
        likely = lossd_fine_log1p(lossd_fine_exp_minus(t));
        unlikely = lossd_plus(lossd_two_of(certain ? LOSSD_FAR : t, 0.0), likely);
    }
    likely = lossd_times(likely, positive ? share : z);
    unlikely = lossd_times(unlikely, positive ? z : share);
    lossd_two loss = lossd_plus(likely, unlikely);
    int far = (loss.hi < 60.0 ? 0 : 1) | (certain & (loss.hi > 0.0));
    lossd_split_fine_exp parts = lossd_fine_exp_parts(far ? 60.0 : loss.hi, far ? 0.0 : loss.lo);
    double scale = lossd_of_bits((1023 - parts.n) << 52);
    lossd_two miss = lossd_plus(lossd_two_of(1.0 - scale, 0.0), lossd_two_of(-scale * parts.q.hi, -scale * parts.q.lo));
    return lossd_plus(miss, lossd_two_of(LOSSD_MARGIN_HIGH, LOSSD_MARGIN_LOW));
}

/* ---- loops; the flags are numbers that the compiler knows ---- */

/* value, or infinity where the input is certain of the wrong class */
LOSSD_INLINE double lossd_limit(int probabilities, double x, double loss, double value) {
    int certain = probabilities ? (x == 0.0) | (x == 1.0) : fabs(x) > LOSSD_GREATEST;
    return certain & (loss > 0.0) ? INFINITY : value;
}

LOSSD_INLINE void lossd_cross_entropies(int probabilities, int limit, int n, const double *restrict x,
                                        const double *restrict y, const double *restrict z,
                                        const double *restrict k, double *restrict loss) {
    for (int i = 0; i < n; i++) {
        double each = lossd_cross_entropy(lossd_input_of(probabilities, x[i]), y[i], z[i], k ? k[i] : 1.0);
        loss[i] = limit ? lossd_limit(probabilities, x[i], each, each) : each;
    }
}

LOSSD_INLINE void lossd_misses(int probabilities, int quality, int n, const double *restrict x,
                               const double *restrict y, const double *restrict z, const double *restrict k,
                               double *restrict loss, double *restrict miss) {
    for (int i = 0; i < n; i++) {
        lossd_input input = lossd_input_of(probabilities, x[i]);
        loss[i] = lossd_cross_entropy(input, y[i], z[i], k ? k[i] : 1.0);
        miss[i] = lossd_miss(probabilities, quality, input, y[i], z[i]);
    }
}

LOSSD_INLINE void lossd_fine_misses(int probabilities, int variant, int n, const double *restrict x,
                                    const double *restrict y, const double *restrict z, const double *restrict k,
                                    double *restrict miss, double *restrict low) {
    for (int i = 0; i < n; i++) {
        lossd_two each = variant == LOSSD_EXP
                             ? lossd_fine_exp_miss(probabilities, x[i], y[i], z[i], k ? k[i] : 1.0)
                             : lossd_fine_miss(probabilities, variant == LOSSD_QUALITY, x[i], y[i], z[i]);
        miss[i] = each.hi;
        low[i] = each.lo;
    }
}

/* miss^gamma, in place */
static void lossd_powers(double gamma, int n, double *restrict miss, const double *restrict low) {
    if (gamma == 0.5)
        for (int i = 0; i < n; i++) miss[i] = sqrt(miss[i]);
    else if (gamma == 1.0)
        return;
    else if (gamma == 1.5)
        for (int i = 0; i < n; i++) miss[i] = miss[i] * sqrt(miss[i]);
    else if (gamma == 2.0)
        for (int i = 0; i < n; i++) miss[i] = miss[i] * miss[i];
    else if (gamma == 3.0)
        for (int i = 0; i < n; i++) miss[i] = miss[i] * miss[i] * miss[i];
    else
        for (int i = 0; i < n; i++) miss[i] = lossd_power(miss[i], low[i], gamma);
}

/* balance miss^gamma loss, in place, and the limits */
LOSSD_INLINE void lossd_products(int probabilities, int exp, int n, const double *restrict x,
                                 const double *restrict y, const double *restrict z, const double *restrict a,
                                 double alpha, const double *restrict power, double *restrict value) {
    for (int i = 0; i < n; i++) {
        double each = a ? a[i] : alpha;
        double balance = exp ? each : y[i] * each + z[i] * (1.0 - each);
        double loss = value[i], product = lossd_share(balance, lossd_share(power[i], loss));
        value[i] = lossd_limit(probabilities, x[i], balance > 0.0 ? loss : 0.0, product);
    }
}

#define LOSSD_BALANCED(probabilities)                                                                    \
    do {                                                                                                 \
        if (!how->balanced)                                                                              \
            lossd_products(probabilities, 1, n, x, y, z, NULL, 1.0, miss, value);                        \
        else if (exp)                                                                                    \
            LOSSD_EITHER(a, lossd_products(probabilities, 1, n, x, y, z, NULL, how->alpha, miss, value), \
                         lossd_products(probabilities, 1, n, x, y, z, a, 0.0, miss, value));             \
        else                                                                                             \
            LOSSD_EITHER(a, lossd_products(probabilities, 0, n, x, y, z, NULL, how->alpha, miss, value), \
                         lossd_products(probabilities, 0, n, x, y, z, a, 0.0, miss, value));             \
    } while (0)

#define LOSSD_EITHER(flag, call0, call1) \
    do {                                 \
        if (flag)                        \
            call1;                       \
        else                             \
            call0;                       \
    } while (0)

/* The losses of n elements, at most LOSSD_BLOCK.
 *   x: logits or probabilities; y: targets before smoothing; k: pos_weight, or NULL for 1; a: alpha of each
 *   element, or NULL for how->alpha.
 * NaN in any of them gives NaN; a loss may be -0.
 */
static void lossd_elements(const formula *how, int n, const double *restrict x, const double *restrict y,
                           const double *restrict k, const double *restrict a, double *restrict value) {
    double smooth[LOSSD_BLOCK], z[LOSSD_BLOCK], miss[LOSSD_BLOCK], low[LOSSD_BLOCK];
    int logits = !how->probabilities, quality = how->variant == LOSSD_QUALITY, exp = how->variant == LOSSD_EXP;
    if (how->smoothing != 0.0) {
        double keep = 1.0 - how->smoothing, half = how->smoothing / 2.0;
        for (int i = 0; i < n; i++) {
            smooth[i] = y[i] * keep + half;
            z[i] = (1.0 - y[i]) * keep + half;
        }
        y = smooth;
    } else {
        for (int i = 0; i < n; i++) z[i] = 1.0 - y[i];
    }
    if (how->loss == LOSSD_BCE) {
        if (logits)
            LOSSD_EITHER(k, lossd_cross_entropies(0, 1, n, x, y, z, NULL, value),
                         lossd_cross_entropies(0, 1, n, x, y, z, k, value));
        else
            LOSSD_EITHER(k, lossd_cross_entropies(1, 1, n, x, y, z, NULL, value),
                         lossd_cross_entropies(1, 1, n, x, y, z, k, value));
        return;
    }
    double gamma = how->gamma;
    int products = gamma == 0.5 || gamma == 1.0 || gamma == 1.5 || gamma == 2.0 || gamma == 3.0;
    int fine = gamma != 0.0 && (!products || exp);
    low[0] = 0.0;
    if (gamma == 0.0 || fine) {
        if (logits)
            LOSSD_EITHER(k, lossd_cross_entropies(0, 0, n, x, y, z, NULL, value),
                         lossd_cross_entropies(0, 0, n, x, y, z, k, value));
        else
            LOSSD_EITHER(k, lossd_cross_entropies(1, 0, n, x, y, z, NULL, value),
                         lossd_cross_entropies(1, 0, n, x, y, z, k, value));
    }
    if (fine) {
        if (exp) {
            if (logits)
                LOSSD_EITHER(k, lossd_fine_misses(0, LOSSD_EXP, n, x, y, z, NULL, miss, low),
                             lossd_fine_misses(0, LOSSD_EXP, n, x, y, z, k, miss, low));
            else
                LOSSD_EITHER(k, lossd_fine_misses(1, LOSSD_EXP, n, x, y, z, NULL, miss, low),
                             lossd_fine_misses(1, LOSSD_EXP, n, x, y, z, k, miss, low));
        } else if (logits) {
            LOSSD_EITHER(quality, lossd_fine_misses(0, LOSSD_SIGMOID, n, x, y, z, NULL, miss, low),
                         lossd_fine_misses(0, LOSSD_QUALITY, n, x, y, z, NULL, miss, low));
        } else {
            LOSSD_EITHER(quality, lossd_fine_misses(1, LOSSD_SIGMOID, n, x, y, z, NULL, miss, low),
                         lossd_fine_misses(1, LOSSD_QUALITY, n, x, y, z, NULL, miss, low));
        }
    } else if (gamma != 0.0) {
        if (logits && k)
            LOSSD_EITHER(quality, lossd_misses(0, 0, n, x, y, z, k, value, miss),
                         lossd_misses(0, 1, n, x, y, z, k, value, miss));
        else if (logits)
            LOSSD_EITHER(quality, lossd_misses(0, 0, n, x, y, z, NULL, value, miss),
                         lossd_misses(0, 1, n, x, y, z, NULL, value, miss));
        else if (k)
            LOSSD_EITHER(quality, lossd_misses(1, 0, n, x, y, z, k, value, miss),
                         lossd_misses(1, 1, n, x, y, z, k, value, miss));
        else
            LOSSD_EITHER(quality, lossd_misses(1, 0, n, x, y, z, NULL, value, miss),
                         lossd_misses(1, 1, n, x, y, z, NULL, value, miss));
    }
    if (gamma != 0.0)
        lossd_powers(gamma, n, miss, low);
    else
        for (int i = 0; i < n; i++) miss[i] = 1.0;
    if (logits)
        LOSSD_BALANCED(0);
    else
        LOSSD_BALANCED(1);
}
#endif

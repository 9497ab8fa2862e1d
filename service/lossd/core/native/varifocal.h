/* The varifocal loss for CPUs: the steps of core/losses/varifocal.py, bit for bit. */
#ifndef LOSSD_VARIFOCAL_H
#define LOSSD_VARIFOCAL_H

#include "elements.h"

static const lossd_target LOSSD_NEGATIVE = {{0.0, 0.0}, {1.0, 0.0}};

/* With near, no logit is as large as LOSSD_NEAR, or NaN. */
LOSSD_INLINE void lossd_simple_varifocal(int probabilities, int near, double gamma, double alpha, int n,
                                         const double *restrict x, const double *restrict y, double *restrict value) {
    int careful = gamma > 1.5;
    for (int i = 0; i < n; i++) {
        lossd_input input = lossd_input_of(probabilities, 0, careful, near, x[i]);
        double cost = lossd_plain_cross_entropy(input, y[i]);
        lossd_two p = lossd_hard_miss(probabilities, careful, input, 0.0);
        double power = gamma == 0.0 ? 1.0 : lossd_simple_power(p, gamma);
        double coefficient = y[i] == 0.0 ? alpha * power : y[i];
        double loss = coefficient * cost;
        value[i] = near ? loss : lossd_limit(probabilities, x[i], coefficient > 0.0 ? cost : 0.0, loss);
    }
}

LOSSD_INLINE void lossd_any_varifocal(int probabilities, double gamma, double alpha, int n, const double *restrict x,
                                      const double *restrict y, double *restrict value) {
    for (int i = 0; i < n; i++) {
        lossd_input input = lossd_input_of(probabilities, 1, 1, 0, x[i]);
        double cost = lossd_plain_cross_entropy(input, y[i]);
        lossd_two p = lossd_miss(probabilities, 0, 1, 1, input, LOSSD_NEGATIVE);
        double coefficient = y[i] == 0.0 ? alpha * lossd_power(p, gamma) : y[i];
        value[i] = lossd_limit(probabilities, x[i], coefficient > 0.0 ? cost : 0.0, coefficient * cost);
    }
}

/* Whether no input is as large as LOSSD_NEAR, or NaN. */
static int lossd_all_near(int n, const double *restrict x) {
    int64_t other = 0;
    for (int i = 0; i < n; i++) other |= !(fabs(x[i]) < LOSSD_NEAR);
    return !other;
}

/* y times the cross entropy, or for a target of 0 alpha p^gamma times it */
static void lossd_varifocal(const formula *how, int n, const double *restrict x, const double *restrict y,
                            const double *restrict k, const double *restrict a, double *restrict value) {
    double alpha = how->own[0], gamma = how->own[1];
    int near = !how->probabilities && lossd_all_near(n, x);
    (void)k, (void)a;
#define LOSSD_SIMPLE_VARIFOCAL(gamma)                                \
    do {                                                             \
        if (how->probabilities)                                      \
            lossd_simple_varifocal(1, 0, gamma, alpha, n, x, y, value); \
        else if (near)                                               \
            lossd_simple_varifocal(0, 1, gamma, alpha, n, x, y, value); \
        else                                                         \
            lossd_simple_varifocal(0, 0, gamma, alpha, n, x, y, value); \
    } while (0)
    if (gamma == 0.0)
        LOSSD_SIMPLE_VARIFOCAL(0.0);
    else if (gamma == 0.5)
        LOSSD_SIMPLE_VARIFOCAL(0.5);
    else if (gamma == 1.0)
        LOSSD_SIMPLE_VARIFOCAL(1.0);
    else if (gamma == 1.5)
        LOSSD_SIMPLE_VARIFOCAL(1.5);
    else if (gamma == 2.0)
        LOSSD_SIMPLE_VARIFOCAL(2.0);
    else if (gamma == 3.0)
        LOSSD_SIMPLE_VARIFOCAL(3.0);
    else if (how->probabilities)
        lossd_any_varifocal(1, gamma, alpha, n, x, y, value);
    else
        lossd_any_varifocal(0, gamma, alpha, n, x, y, value);
}
#endif

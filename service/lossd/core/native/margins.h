/* The squared error and the hinge loss for CPUs: the steps of core/losses/margins.py, bit for bit. */
#ifndef LOSSD_MARGINS_H
#define LOSSD_MARGINS_H

#include "elements.h"

/* The second number of a pair, 0 where the first is infinite or NaN. */
LOSSD_INLINE double lossd_finite_low(lossd_two a) { return fabs(a.hi) <= DBL_MAX ? a.lo : 0.0; }

/* (x - y)^2; where x - y is exact, its square rounded once */
static void lossd_squared(const formula *how, int n, const double *restrict x, const double *restrict y,
                          const double *restrict k, const double *restrict a, double *restrict value) {
    int64_t inexact = 0;
    (void)how, (void)k, (void)a;
    for (int i = 0; i < n; i++) {
        double off = x[i] - y[i];
        value[i] = off * off;
        inexact |= (off + y[i] != x[i]) | (x[i] - off != y[i]); /* of these, that with the greater one says it */
    }
    if (!inexact) return; /* as is usual for float32 */
    for (int i = 0; i < n; i++) {
        lossd_two off = lossd_sum(x[i], -y[i]);
        lossd_two square = lossd_product(off.hi, off.hi);
        square.lo = square.lo + 2.0 * off.hi * lossd_finite_low(off);
        value[i] = off.lo == 0.0 ? square.hi : square.hi + lossd_finite_low(square);
    }
}

/* max(0, 1 - (2 y - 1) x) */
static void lossd_hinge(const formula *how, int n, const double *restrict x, const double *restrict y,
                        const double *restrict k, const double *restrict a, double *restrict value) {
    (void)how, (void)k, (void)a;
    if (lossd_are_0_or_1(n, y)) { /* then it is rounded once */
        for (int i = 0; i < n; i++) {
            double loss = y[i] != 0.0 ? 1.0 - x[i] : 1.0 + x[i];
            value[i] = loss <= 0.0 ? 0.0 : loss;
        }
        return;
    }
    for (int i = 0; i < n; i++) {
        double size = fabs(x[i]), far = size > DBL_MAX ? copysign(0x1p1000, x[i]) : x[i];
        lossd_two side = lossd_sum(2.0 * y[i], -1.0);
        lossd_two margin = lossd_times(side, lossd_pair(far, 0.0));
        lossd_two short_of = lossd_sum(1.0, -margin.hi);
        double loss = short_of.hi + (short_of.lo - margin.lo);
        loss = loss <= 0.0 ? 0.0 : loss;
        value[i] = (size > DBL_MAX) & (loss > 1.0) ? INFINITY : loss;
    }
}
#endif

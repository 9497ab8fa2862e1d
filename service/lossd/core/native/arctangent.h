/* The arctangent of a ratio: the steps of core/losses/arctangent.py, bit for bit. */
#ifndef LOSSD_ARCTANGENT_H
#define LOSSD_ARCTANGENT_H

#include "elements.h"

/* scripts/coefficients.py derives and checks these. */
static const double LOSSD_ATAN_TAIL[12] = {
    -0x1.5555555555555p-2, 0x1.9999999999957p-3, -0x1.249249248dbadp-3, 0x1.c71c71c32f1ecp-4,
    -0x1.745d1665a821ap-4, 0x1.3b1393ab09c83p-4, -0x1.110e95def55e7p-4, 0x1.e19b408123e6cp-5,
    -0x1.ac82c8da7fff9p-5, 0x1.7501707bf73ebp-5, -0x1.1b8b0a038cb08p-5, 0x1.0b8c54963762fp-6};

#define LOSSD_TAN_EIGHTH 0x1.a827999fcef32p-2 /* tan(pi / 8) */
#define LOSSD_TAN_3_EIGHTHS 0x1.3504f333f9de6p+1
#define LOSSD_QUARTER_PI 0x1.921fb54442d18p-1
#define LOSSD_HALF_PI 0x1.921fb54442d18p+0

/* atan(over / under) for over, under >= 0, whose sum is finite; 0 where both are 0 */
LOSSD_INLINE double lossd_arctangent(double over, double under) {
    int near = over <= LOSSD_TAN_EIGHTH * under, far = over > LOSSD_TAN_3_EIGHTHS * under;
    double top = near ? over : far ? -under : over - under; /* the tangent of what is left of the angle */
    double bottom = near ? under : far ? over : over + under;
    double z = top / (over == 0.0 ? 1.0 : bottom), w = z * z, w2 = w * w, w4 = w2 * w2;
    const double *c = LOSSD_ATAN_TAIL;
    double tail = lossd_polynomial8(c, w) + ((c[8] + c[9] * w) + (c[10] + c[11] * w) * w2) * (w4 * w4);
    return (near ? 0.0 : far ? LOSSD_HALF_PI : LOSSD_QUARTER_PI) + (z + z * (w * tail));
}

#endif

/* The functions of the losses, by number (catalog.h). */
#ifndef LOSSD_LOSSES_H
#define LOSSD_LOSSES_H

#include "asymmetric.h"
#include "box.h"
#include "catalog.h"
#include "elements.h"
#include "margins.h"
#include "overlap.h"
#include "rows.h"
#include "softmax.h"
#include "varifocal.h"

/* The losses of up to LOSSD_PIECE elements.
 *   x: logits or probabilities; y: targets before smoothing; k: pos_weight, or NULL for 1; a: alpha of each
 *   element, or NULL for how->alpha. Only bce and focal have k and a.
 * NaN in any of them gives NaN; a loss may be -0.
 */
typedef void element_function(const formula *how, int n, const double *restrict x, const double *restrict y,
                              const double *restrict k, const double *restrict a, double *restrict value);
/* The losses of some rows, and what else `to` asks for; 0: a value was refused, and the fault is noted. */
typedef int row_function(const formula *how, rows *rows, const row_results *to);

#define LOSSD_FUNCTION(name) lossd_##name,
static element_function *const ELEMENT_FUNCTIONS[] = {ELEMENT_LOSSES(LOSSD_FUNCTION) NULL};
static row_function *const ROW_FUNCTIONS[] = {ROW_LOSSES(LOSSD_FUNCTION) NULL};

/* The losses of n elements. */
static void lossd_elements(const formula *how, int n, const double *x, const double *y, const double *k,
                           const double *a, double *value)
{
    element_function *const function = ELEMENT_FUNCTIONS[how->loss];
    for (int i = 0; i < n; i += LOSSD_PIECE) {
        int piece = n - i < LOSSD_PIECE ? n - i : LOSSD_PIECE;
        function(how, piece, x + i, y + i, k ? k + i : NULL, a ? a + i : NULL, value + i);
    }
}

#endif

/* The losses, by number: a loss has the function lossd_NAME, which losses.h includes. */
#ifndef LOSSD_CATALOG_H
#define LOSSD_CATALOG_H

/* Each element has a loss. */
#define ELEMENT_LOSSES(X) \
    X(bce)                \
    X(focal)              \
    X(asymmetric)         \
    X(varifocal)          \
    X(squared)            \
    X(hinge)
/* Each row of elements has one. */
#define ROW_LOSSES(X) \
    X(cross_entropy)  \
    X(softmax_focal)  \
    X(dice)           \
    X(tversky)        \
    X(box)

#define LOSSD_NUMBER(name) LOSSD_NUMBER_##name,
enum {
    ELEMENT_LOSSES(LOSSD_NUMBER) LOSSD_FIRST_ROW_LOSS,
    LOSSD_BEFORE_ROW_LOSSES = LOSSD_FIRST_ROW_LOSS - 1,
    ROW_LOSSES(LOSSD_NUMBER) LOSSD_OTHER /* a loss that an operator adds: it is computed elsewhere */
};
enum { LOSSD_BCE = LOSSD_NUMBER_bce, LOSSD_FOCAL = LOSSD_NUMBER_focal };

#endif

/* What is asked of the kernel, and what it answers. library.py has the same in Python. */
#ifndef LOSSD_KERNEL_H
#define LOSSD_KERNEL_H

#include "elements.h"
#include "load.h"

#define VISIBLE __attribute__((visibility("default")))

enum { IGNORE_NONE, IGNORE_EQUAL, IGNORE_NAN };
enum { DIVISOR_NONE, DIVISOR_COUNT, DIVISOR_WEIGHT, DIVISOR_POSITIVES };
enum {
    RULE_NONE,
    RULE_MASK,
    RULE_CLASS,
    RULE_WHOLE,
    RULE_TARGET,
    RULE_INPUTS,
    RULE_WEIGHT,
    RULE_POS_WEIGHT,
    RULE_MEMORY, /* there is none left */
    RULE_BASELINE,
    RULE_CLASS_WEIGHT,
    RULE_BOX, /* an inverted box */
    RULE_TARGET_BOX,
    RULE_BASELINE_BOX
};
/* What targets may be: in [0, 1], any finite number, or coordinates of boxes, as inputs are, too. */
enum { TARGETS_PROBABILITIES, TARGETS_NUMBERS, TARGETS_BOXES };

/* A request. Inputs, baseline and targets are spread over its elements, row by row; weight and mask over its losses.
 *
 * Where each element has a loss, these are the same.
 */
typedef struct {
    formula formula;
    tensor inputs, targets, weight, pos_weight, alpha, mask, baseline;
    tensor class_weight;   /* one number for each class; so is alpha, where rows are of classes */
    int64_t row_size;      /* elements that have one loss together */
    int64_t class_inner;   /* element i is of class i / class_inner % classes */
    int64_t classes;       /* 0: targets are dense, not class ids */
    int32_t target_rule;
    int32_t ids_by_row;    /* there is an id for each row, not for each element */
    double ignored, background;
    int32_t ignores, has_background, allow_nan;
    int32_t divisor; /* what each output is divided by, where that must be summed for each */
} job;

#define MOST_GAMMAS 32
#define MOST_COLUMNS 8

/* A whole number for each row. */
typedef struct {
    int64_t offset, stride; /* in bytes */
    int32_t size;           /* bytes of a number */
    int32_t is_signed, swapped, padding;
} column;

/* Where the figures of a group are among its own; -1: it is not there. */
typedef struct {
    int64_t sum, positives, row_squares, row_products, divisor_squares, weight, element_squares;
    int64_t baseline, pair_squares, pair_row_squares, pair_row_products, baseline_row_squares, baseline_row_products;
    int64_t class_sum, class_positives, class_weight;
    int64_t rows, rows_dropped, count, nan, infinite, pair_elements, pair_rows, class_count;
} group_indices;

/* Where figures over all rows are. */
typedef struct {
    int64_t row_squares, row_products, divisor_squares, element_squares, brier, cross_entropy;
    int64_t baseline, pair_squares, pair_row_squares, pair_row_products, baseline_row_squares, baseline_row_products;
    int64_t sweep;
    int64_t class_sum, class_positives, class_weight, class_baseline, class_pair_squares;
    int64_t histogram_weight, bin_positives, bin_probability;
    int64_t rows_dropped, nan, infinite, class_count, class_pairs, histogram_elements, histogram_rows;
    int64_t soft, undefined, bin_count, pair_elements, pair_rows;
} indices;

/* What a report is to hold; lossd.core.report.layout says what that means. */
typedef struct {
    int64_t row_size;                  /* losses of a row */
    int64_t classes, class_inner;      /* 0: no figures by class */
    int64_t calibration_classes, calibration_inner, calibration_cells;
    int64_t sums, single_sums, counts, group_sums, group_counts;
    indices at;
    group_indices group_at;
    double gamma[MOST_GAMMAS];
    column groups[MOST_COLUMNS], ids;
    int32_t gammas, columns, bins, exact;
    int32_t top, has_ids, ids_unsigned, paired;
    int32_t weighted, row_mean, share;
    int32_t by_target; /* a loss is of a row of classes, and of its target's class */
} report;

/* A run of its losses, in C order, and where their sums go. */
typedef struct {
    int64_t start, stop;
    int64_t length[MOST_DIMENSIONS]; /* of the part's axes, which are alternately reduced and not */
    int32_t reduced[MOST_DIMENSIONS];
    int32_t axes;
    int32_t elementwise; /* no axis is reduced: each element is an output */
    int32_t rounded;     /* outputs are wanted as finished sums */
    int32_t capacity;    /* planes that there is room for */
    int64_t outputs;
    double *memory[2]; /* the losses' and the divisors' planes, [capacity][outputs]; NULL where there are none */
    const double *given[2]; /* the losses and the baseline's, if they have been computed elsewhere; else NULL */
    char *report;           /* memory for a partial report */
    int64_t report_bytes;
} part;

typedef struct {
    int32_t rule; /* 0: all is well */
    int32_t nan;
    int64_t position; /* of the element, in C order; the first of a row where the fault is the row's */
    double value;
} fault;

typedef struct result {
    int64_t count; /* losses that are not dropped */
    int64_t report_bytes;
    fault fault;
    int32_t planes[2];
    int32_t terms[3]; /* of the losses, the weights, the targets */
    int32_t padding;
    double term[3][MOST_TERMS];
} result;

#endif

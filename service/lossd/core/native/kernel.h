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
    RULE_MEMORY /* there is none left */
};

/* A request. */
typedef struct {
    formula formula;
    tensor inputs, targets, weight, pos_weight, alpha, mask;
    int64_t class_inner; /* element i is of class i / class_inner % classes */
    int64_t classes;     /* 0: targets are dense, not class ids */
    double ignored, background;
    int32_t ignores, has_background, allow_nan;
    int32_t divisor; /* what each output is divided by, where that must be summed for each */
} job;

/* A run of its elements, in C order, and where their sums go. */
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
} part;

typedef struct {
    int32_t rule; /* 0: all is well */
    int32_t nan;
    int64_t position; /* of the element, in C order */
    double value;
} fault;

typedef struct result {
    int64_t count; /* elements that are not dropped */
    fault fault;
    int32_t planes[2];
    int32_t terms[3]; /* of the losses, the weights, the targets */
    int32_t padding;
    double term[3][MOST_TERMS];
} result;

#endif

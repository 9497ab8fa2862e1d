/* The values of a block: which are allowed, and targets of every form as numbers. */
#ifndef LOSSD_VALUES_H
#define LOSSD_VALUES_H

#include <float.h>

#include "kernel.h"

static void note_fault(fault *fault, int rule, int64_t position, double value)
{
    fault->rule = rule;
    fault->nan = isnan(value);
    fault->position = position;
    fault->value = value;
}

#define FLOAT32_ONE 0x3f800000u

/* What float32s, from any address on, are seen to be without being read as numbers: bits are compared, 0 if not. */

static inline uint32_t float32_bits(const char *from, int i)
{
    uint32_t bits;
    memcpy(&bits, from + sizeof bits * (size_t)i, sizeof bits);
    return bits;
}

/* 0 and 1, and how many are 1. */
static int are_hard(const char *from, int count, double *ones)
{
    uint32_t soft = 0, found = 0;
    for (int i = 0; i < count; i++) {
        const uint32_t bits = float32_bits(from, i);
        soft |= (bits != 0) & (bits != FLOAT32_ONE);
        found += bits >> 29;
    }
    *ones = (double)found;
    return !soft;
}

/* In [0, 1], and not -0. */
static int are_probabilities(const char *from, int count)
{
    uint32_t beyond = 0;
    for (int i = 0; i < count; i++)
        beyond |= float32_bits(from, i) > FLOAT32_ONE;
    return !beyond;
}

/* Of a size up to some number's, by its bits: not NaN. */
static int are_up_to(const char *from, int count, uint32_t most)
{
    uint32_t beyond = 0;
    for (int i = 0; i < count; i++)
        beyond |= (float32_bits(from, i) & 0x7fffffff) > most;
    return !beyond;
}

/* 0, or at least 2^-15 and less than 2^14 in size: so all are multiples of 2^-38, and their differences float64s. */
static int differ_exactly(const char *from, int count)
{
    const uint32_t least = 0x38000000, most = 0x467fffff;
    uint32_t beyond = 0;
    for (int i = 0; i < count; i++) {
        const uint32_t size = float32_bits(from, i) & 0x7fffffff;
        beyond |= (size - least > most - least) & (size != 0);
    }
    return !beyond;
}

/* Whether any value is NaN. */
static int any_nan(const double *values, int count)
{
    int64_t nan = 0;
    for (int i = 0; i < count; i++)
        nan |= values[i] != values[i];
    return nan != 0;
}

/* Whether any value is outside [least, greatest], or NaN. */
static int any_outside(const double *values, int count, double least, double greatest)
{
    int64_t outside = 0;
    if (least == -INFINITY && greatest == INFINITY)
        return any_nan(values, count);
    for (int i = 0; i < count; i++)
        outside |= !(values[i] >= least) | !(values[i] <= greatest);
    return outside != 0;
}

/* Note the first value outside [least, greatest] as a fault; 0 if there is one. `start` is the first one's place. */
static int check(fault *fault, int rule, const double *values, const double *shown, int count, double least,
                 double greatest, int allow_nan, int64_t start)
{
    if (!any_outside(values, count, least, greatest))
        return 1;
    for (int i = 0; i < count; i++) {
        if (isnan(values[i]) ? allow_nan : values[i] >= least && values[i] <= greatest)
            continue;
        note_fault(fault, rule, start + i, shown[i]);
        return 0;
    }
    return 1;
}

/* Whether inputs are seen to be right as float32s. */
static int are_right_inputs(const job *job, const char *from, int count)
{
    if (job->formula.probabilities)
        return are_probabilities(from, count);
    return are_up_to(from, count, job->target_rule == TARGETS_BOXES ? 0x7f7fffff : 0x7f800000);
}

/* Whether targets are seen to be right as float32s. */
static int are_right_targets(const job *job, const char *from, int count)
{
    return job->target_rule == TARGETS_PROBABILITIES ? are_probabilities(from, count)
                                                     : are_up_to(from, count, 0x7f7fffff);
}

/* Check inputs, or those of the baseline. */
static int check_inputs(const job *job, fault *fault, int rule, const double *x, int count, int64_t start)
{
    const int probabilities = job->formula.probabilities;
    const double most = job->target_rule == TARGETS_BOXES ? DBL_MAX : INFINITY;
    return check(fault, rule, x, x, count, probabilities ? 0.0 : -most, probabilities ? 1.0 : most, job->allow_nan,
                 start);
}

static int check_targets(const job *job, fault *fault, const double *y, int count, int64_t start)
{
    const int any = job->target_rule != TARGETS_PROBABILITIES;
    return check(fault, RULE_TARGET, y, y, count, any ? -DBL_MAX : 0.0, any ? DBL_MAX : 1.0, job->allow_nan, start);
}

static int check_ids(const job *job, fault *fault, const double *ids, int count, int64_t start)
{
    double parts[BLOCK];
    if (!check(fault, RULE_CLASS, ids, ids, count, 0.0, (double)(job->classes - 1), 0, start))
        return 0;
    for (int i = 0; i < count; i++)
        parts[i] = ids[i] - (double)(int64_t)ids[i];
    return check(fault, RULE_WHOLE, parts, ids, count, 0.0, 0.0, 0, start);
}

/* Drop what has the target that says so. `kept` is the mask where there is one, else it is filled. */
static void drop_ignored(const job *job, int masked, const double *y, int count, double *kept)
{
    const double ignored = job->ignored;
    const int nan = job->ignores == IGNORE_NAN;
    for (int i = 0; i < count; i++) {
        const int drop = nan ? y[i] != y[i] : y[i] == ignored;
        const double kind = masked ? kept[i] : 1.0;
        kept[i] = drop && (kind == 0.0 || kind == 1.0) ? 0.0 : kind; /* what is no mask is to be seen */
    }
}

static void stand_in(const double *kept, int count, double *values, double value)
{
    for (int i = 0; i < count; i++)
        values[i] = kept[i] != 0.0 ? values[i] : value;
}

/* Open class ids out: 1 for the element of its class, else 0. `kept` may be NULL. */
static void open_ids(const job *job, int64_t start, int count, const double *kept, double *y, double *ids)
{
    int64_t inner = start % job->class_inner, class = start / job->class_inner % job->classes;
    for (int i = 0; i < count; i++) {
        double id = y[i];
        int background = job->has_background && id == job->background;
        ids[i] = background ? 0.0 : id;
        y[i] = !background && id == (double)class && (!kept || kept[i] != 0.0) ? 1.0 : 0.0;
        if (++inner == job->class_inner) {
            inner = 0;
            if (++class == job->classes)
                class = 0;
        }
    }
}

#endif

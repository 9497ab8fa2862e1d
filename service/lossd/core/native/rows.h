/* Rows of numbers that have one loss together: reading them, for the losses' functions (losses.h).
 *
 * A row's numbers lie one behind the other in the operands `inputs` and `targets`, whatever their layout in
 * memory. Short rows are read several at a time, so that loops run over the numbers of all of them; a long row
 * is read in pieces.
 */
#ifndef LOSSD_ROWS_H
#define LOSSD_ROWS_H

#include "kernel.h"
#include "values.h"

/* Some whole rows: `count` * `size` is at most BLOCK, or there is one row of any size. */
typedef struct {
    const job *job;
    const char *base;
    fault *fault;
    int64_t first; /* the first row's place in the request */
    int count;
    int64_t size;         /* numbers of a row */
    const double *ids;    /* the class of each row; NULL where each number has a target */
    const tensor *inputs; /* the job's inputs, or the baseline's */
    int drops;            /* some numbers are left out of their rows: `kept` says which */
    const char *side_by_side; /* where x was read from, if that is float32s one behind the other; else NULL */
    double *x, *y, *kept; /* what is read: BLOCK numbers each, and room for LANES more */
} rows;

/* What is found of each row, [count]. */
typedef struct {
    double *loss;    /* without weights other than those of classes */
    double *targets; /* the sum of its targets */
    double *weight;  /* what its weight is multiplied by; 1 unless it is set */
    /* NULL unless a report wants them; 0 unless they are set: */
    double *confidence; /* the greatest probability */
    double *correct;    /* the target's probability of the predicted class */
    double *class_of;   /* the target's class */
    double *predicted;  /* the class that has the greatest probability */
} row_results;

/* Read the targets of numbers of rows, and check them; 0: one was refused. */
static int read_row_targets(rows *rows, int64_t start, int n)
{
    const job *job = rows->job;
    double ids[BLOCK];
    const char *from = rows->drops || job->classes ? NULL : float32_run(&job->targets, rows->base, start, n);
    if (from && are_right_targets(job, from, n)) {
        read_run(from, sizeof(float), FLOAT32, 0, n, rows->y);
        fetch_next(from, n);
        return 1;
    }
    read_elements(&job->targets, rows->base, start, n, rows->y);
    if (rows->drops) {
        drop_ignored(job, 0, rows->y, n, rows->kept);
        stand_in(rows->kept, n, rows->y, 0.0);
    }
    if (!job->classes)
        return check_targets(job, rows->fault, rows->y, n, start);
    open_ids(job, start, n, rows->drops ? rows->kept : NULL, rows->y, ids);
    return check_ids(job, rows->fault, ids, n, start);
}

/* Read n numbers of these rows, at most BLOCK, from the one at `from` on: x, y unless there are ids, and kept if
 * some are dropped, where x and y are 0. They are checked by the loss's rules; 0: one was refused.
 */
static int read_rows(rows *rows, int64_t from, int n)
{
    const job *job = rows->job;
    const int64_t start = rows->first * rows->size + from;
    if (n <= 0)
        return 1;
    if (!rows->ids && !read_row_targets(rows, start, n))
        return 0;
    const char *place = rows->drops ? NULL : float32_run(rows->inputs, rows->base, start, n);
    rows->side_by_side = place;
    if (place && are_right_inputs(job, place, n)) {
        read_run(place, sizeof(float), FLOAT32, 0, n, rows->x);
        fetch_next(place, n);
        return 1;
    }
    read_elements(rows->inputs, rows->base, start, n, rows->x);
    if (rows->drops)
        stand_in(rows->kept, n, rows->x, 0.0);
    return check_inputs(job, rows->fault, rows->inputs == &job->baseline ? RULE_BASELINE : RULE_INPUTS, rows->x, n,
                        start);
}

/* Read the factors of n classes from one on, such as class_weight or alpha, [size]. */
static void read_class_factors(const tensor *tensor, const rows *rows, int64_t from_class, int n, double *to)
{
    if (n > 0)
        read_elements(tensor, rows->base, from_class, n, to);
}

/* Refuse a value, of the number with a place in these rows; 0. */
static int refuse_row(rows *rows, int rule, int64_t number, double value)
{
    if (rule == RULE_BOX && rows->inputs == &rows->job->baseline)
        rule = RULE_BASELINE_BOX;
    note_fault(rows->fault, rule, rows->first * rows->size + number, value);
    return 0;
}

#endif

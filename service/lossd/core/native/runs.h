/* The rows of a block that has a loss for each: runs of those that are kept, at most so many as are read at a time. */
#ifndef LOSSD_RUNS_H
#define LOSSD_RUNS_H

#include "losses.h"
#include "report_figures.h"

/* Whether rows of elements have a loss each. */
static int has_rows(const job *job)
{
    return job->formula.loss > LOSSD_BEFORE_ROW_LOSSES && job->formula.loss < LOSSD_OTHER;
}

/* Where rows are read into; a vector may be taken from the last number on. */
typedef struct {
    double x[BLOCK + LANES], y[BLOCK + LANES], kept[BLOCK + LANES];
} row_memory;

/* Rows of the inputs, or of the baseline's; next_rows() says which. */
static rows open_rows(const job *job, const char *base, const tensor *inputs, row_memory *memory, fault *fault)
{
    return (rows){.job = job,
                  .base = base,
                  .fault = fault,
                  .size = job->row_size,
                  .inputs = inputs,
                  .drops = job->ignores && !job->ids_by_row,
                  .x = memory->x,
                  .y = memory->y,
                  .kept = memory->kept};
}

/* The next run of rows that are kept, from a place in the block on: its place, or the block's end if there is none.
 *
 * Nothing of a dropped row is read.
 */
static int next_rows(const block *block, int from, rows *rows)
{
    const int most = rows->size > BLOCK / 2 ? 1 : BLOCK / (int)(rows->size > 0 ? rows->size : 1);
    while (from < block->count && !is_kept(block, from))
        from++;
    rows->first = block->start + from;
    rows->ids = rows->job->ids_by_row ? block->ids + from : NULL;
    rows->count = 0;
    while (rows->count < most && from + rows->count < block->count && is_kept(block, from + rows->count))
        rows->count++;
    return from;
}

/* Those of the rows from one on. */
static row_results results_from(const row_results *all, int from)
{
    row_results some = {all->loss + from, all->targets + from, all->weight + from, NULL, NULL, NULL, NULL};
    if (all->confidence) {
        some.confidence = all->confidence + from;
        some.correct = all->correct + from;
        some.class_of = all->class_of + from;
        some.predicted = all->predicted + from;
    }
    return some;
}

static void clear_results(const row_results *all, int count)
{
    const size_t bytes = sizeof(double) * (size_t)count;
    memset(all->loss, 0, bytes);
    memset(all->targets, 0, bytes);
    for (int i = 0; i < count; i++)
        all->weight[i] = 1.0;
    if (!all->confidence)
        return;
    memset(all->confidence, 0, bytes);
    memset(all->correct, 0, bytes);
    memset(all->class_of, 0, bytes);
    memset(all->predicted, 0, bytes);
}

/* The losses of a block's rows without their own weights, and what else is asked for; 0: a value was refused. */
static int score_rows(const job *job, const char *base, const block *block, const tensor *inputs,
                      const row_results *to, fault *fault)
{
    row_function *const function = ROW_FUNCTIONS[job->formula.loss - LOSSD_FIRST_ROW_LOSS];
    row_memory memory;
    rows rows = open_rows(job, base, inputs, &memory, fault);
    clear_results(to, block->count);
    for (int at = next_rows(block, 0, &rows); at < block->count; at = next_rows(block, at + rows.count, &rows)) {
        const row_results results = results_from(to, at);
        if (!function(&job->formula, &rows, &results))
            return 0;
    }
    return 1;
}

#endif

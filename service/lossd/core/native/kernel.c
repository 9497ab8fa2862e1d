/* The losses on a CPU: from the bytes of a request to exact sums, in one pass.
 *
 * A block of elements at a time is read as float64 (load.h), checked (values.h), turned into losses (losses.h) and
 * added up (exact_sum.h) or written out. Where a row of elements has one loss, a block is of such losses, and their
 * rows are read some at a time (rows.h). This file is compiled once for each vector width, with KERNEL_NAME saying by
 * which name; all widths, and lossd.core.losses.elements in torch, give the same bits: there is no fused
 * multiply-add, no function of a library whose bits differ between machines, and no sum that depends on order.
 *
 * Any number of threads may call it at once: nothing is static but the pool of threads (pool.c).
 */
#include <stddef.h>
#include <stdlib.h>

#include "exact_sum.h"
#include "kernel.h"
#include "load.h"
#include "losses.h"
#include "pool.h"
#include "report.h"
#include "runs.h"
#include "values.h"

#ifdef __SSE2__
#include <xmmintrin.h>
typedef unsigned int control_word;
static control_word set_rounding(void)
{
    control_word before = _mm_getcsr();
    _mm_setcsr(0x1f80); /* to nearest, subnormals kept, no traps */
    return before;
}
static void restore_rounding(control_word before)
{
    _mm_setcsr(before);
}
#else
#include <fenv.h>
typedef fenv_t control_word;
static control_word set_rounding(void)
{
    control_word before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
}
static void restore_rounding(control_word before)
{
    fesetenv(&before);
}
#endif

#define CHUNK (16 * BLOCK) /* elements that a thread takes at a time */

/* What a thread has come to. */
typedef struct {
    wide_sum loss, weight, positives;
    int64_t count;
    fault fault;
    plane_sums planes[2];
    figures figures;
} share;

/* Steps of a block */

static void read_targets(const job *job, const char *base, int64_t start, block *block, double *ids)
{
    const int count = block->count;
    double *y = block->y, *kept = block->kept;
    read_elements(&job->targets, base, start, count, y);
    block->dropped = job->mask.axes || job->ignores;
    if (job->mask.axes)
        read_elements(&job->mask, base, start, count, kept);
    if (job->ignores)
        drop_ignored(job, job->mask.axes, y, count, kept);
    if (block->dropped)
        stand_in(kept, count, y, 0.0);
    if (job->classes)
        open_ids(job, start, count, block->dropped ? kept : NULL, y, ids);
}

/* Read a tensor of the block with finite numbers that are not negative; 0: one was refused. */
static int read_factors(const job *job, const char *base, const block *block, const tensor *tensor, int rule,
                        double neutral, double *to, fault *fault)
{
    if (!tensor->axes)
        return 1;
    read_elements(tensor, base, block->start, block->count, to);
    if (block->dropped)
        stand_in(block->kept, block->count, to, neutral);
    return check(fault, rule, to, to, block->count, 0.0, DBL_MAX, job->allow_nan, block->start);
}

static int check_mask(const job *job, const block *block, fault *fault)
{
    return !job->mask.axes ||
           check(fault, RULE_MASK, block->kept, block->kept, block->count, 0.0, 1.0, 0, block->start);
}

/* Read the targets of a block, and check them; 0: a value was refused. */
static int read_right_targets(const job *job, const char *base, block *block, fault *fault)
{
    double ids[BLOCK];
    const int count = block->count, dense = !job->mask.axes && !job->ignores && !job->classes;
    const char *from = dense ? float32_run(&job->targets, base, block->start, count) : NULL;
    double ones = -1.0;
    const int hard = from && are_hard(from, count, &ones);
    block->ones = hard ? ones : -1.0;
    if (hard || (from && are_right_targets(job, from, count))) {
        block->dropped = 0;
        read_run(from, sizeof(float), FLOAT32, 0, count, block->y);
        fetch_next(from, count);
        return 1;
    }
    read_targets(job, base, block->start, block, ids);
    return check_mask(job, block, fault) && (job->classes ? check_ids(job, fault, ids, count, block->start)
                                                          : check_targets(job, fault, block->y, count, block->start));
}

/* Read the inputs of a block whose targets are read, and check them; 0: a value was refused. */
static int read_inputs(const job *job, const char *base, block *block, fault *fault)
{
    const int count = block->count;
    const char *from = block->dropped ? NULL : float32_run(&job->inputs, base, block->start, count);
    if (from && are_right_inputs(job, from, count)) {
        read_run(from, sizeof(float), FLOAT32, 0, count, block->x);
        fetch_next(from, count);
        return 1;
    }
    read_elements(&job->inputs, base, block->start, count, block->x);
    if (block->dropped)
        stand_in(block->kept, count, block->x, job->formula.probabilities ? 0.5 : 0.0);
    return check_inputs(job, fault, RULE_INPUTS, block->x, count, block->start);
}

/* Read a block, and check it; 0: a value was refused. */
static int read_block(const job *job, const char *base, block *block, fault *fault)
{
    const int count = block->count;
    const int64_t start = block->start;
    if (!read_right_targets(job, base, block, fault) || !read_inputs(job, base, block, fault) ||
        !read_factors(job, base, block, &job->weight, RULE_WEIGHT, 0.0, block->weight, fault) ||
        !read_factors(job, base, block, &job->pos_weight, RULE_POS_WEIGHT, 1.0, block->pos_weight, fault))
        return 0;
    if (job->alpha.axes)
        read_elements(&job->alpha, base, start, count, block->alpha);
    return 1;
}

/* Whether a row has a number whose target is not the ignored one. */
static int has_targets(const job *job, const char *base, int64_t row)
{
    double y[BLOCK], kept[BLOCK];
    for (int64_t from = 0; from < job->row_size; from += BLOCK) {
        const int n = job->row_size - from < BLOCK ? (int)(job->row_size - from) : BLOCK;
        read_elements(&job->targets, base, row * job->row_size + from, n, y);
        drop_ignored(job, 0, y, n, kept);
        for (int i = 0; i < n; i++)
            if (kept[i] != 0.0)
                return 1;
    }
    return 0;
}

/* Drop the rows of a block of which ignored targets leave nothing. */
static void drop_ignored_rows(const job *job, const char *base, block *block)
{
    for (int i = 0; i < block->count; i++) {
        if (!job->mask.axes)
            block->kept[i] = 1.0;
        if (block->kept[i] != 0.0 && !has_targets(job, base, block->start + i))
            block->kept[i] = 0.0;
    }
    block->dropped = 1;
}

/* Read what there is for each row of a block, and check it; 0: a value was refused. */
static int read_row_block(const job *job, const char *base, block *block, fault *fault)
{
    const int count = block->count, ids = job->ids_by_row;
    block->dropped = job->mask.axes || (ids && job->ignores);
    block->ones = -1.0;
    if (job->mask.axes)
        read_elements(&job->mask, base, block->start, count, block->kept);
    if (ids)
        read_elements(&job->targets, base, block->start, count, block->ids);
    if (ids && job->ignores)
        drop_ignored(job, job->mask.axes, block->ids, count, block->kept);
    if (ids && block->dropped)
        stand_in(block->kept, count, block->ids, 0.0);
    int allowed = check_mask(job, block, fault);
    if (allowed && !ids && job->ignores)
        drop_ignored_rows(job, base, block);
    if (allowed && (!ids || check_ids(job, fault, block->ids, count, block->start)) &&
        read_factors(job, base, block, &job->weight, RULE_WEIGHT, 0.0, block->weight, fault))
        return 1;
    fault->position *= job->row_size;
    return 0;
}

/* Read the inputs of a block's baseline, and check them; 0: a value was refused. */
static int read_baseline(const job *job, const char *base, const block *block, double *x, fault *fault)
{
    read_elements(&job->baseline, base, block->start, block->count, x);
    if (block->dropped)
        stand_in(block->kept, block->count, x, job->formula.probabilities ? 0.5 : 0.0);
    return check_inputs(job, fault, RULE_BASELINE, x, block->count, block->start);
}

/* Multiply losses by the weights of a block, and drop those that are to be. */
static void weigh(const job *job, const block *block, double *losses)
{
    const int count = block->count;
    if (job->weight.axes)
        for (int i = 0; i < count; i++) {
            double loss = losses[i], weight = block->weight[i];
            losses[i] = weight == 0.0 && loss == loss ? 0.0 : weight * loss; /* no 0 times infinity */
        }
    if (block->dropped)
        stand_in(block->kept, count, losses, 0.0);
}

/* The weighted losses of some inputs of a block that has been read. */
static void score_inputs(const job *job, const block *block, const double *x, double *losses)
{
    lossd_elements(&job->formula, block->count, x, block->y, job->pos_weight.axes ? block->pos_weight : NULL,
                   job->alpha.axes ? block->alpha : NULL, losses);
    weigh(job, block, losses);
}

/* The weighted losses of a block's rows, and what a report has of them; 0: a value was refused. */
static int score_inputs_by_row(const job *job, const char *base, int reported, block *block, fault *fault)
{
    const row_results found = {block->loss,
                               block->y,
                               block->factor,
                               reported ? block->confidence : NULL,
                               reported ? block->correct : NULL,
                               reported ? block->class_of : NULL,
                               reported ? block->predicted : NULL};
    if (!score_rows(job, base, block, &job->inputs, &found, fault))
        return 0;
    if (reported)
        memcpy(block->x, block->confidence, sizeof(double) * (size_t)block->count);
    weigh(job, block, block->loss);
    return 1;
}

/* The same of the baseline: its losses and greatest probabilities. */
static int score_baseline_by_row(const job *job, const char *base, const block *block, double *losses,
                                 double *confidence, fault *fault)
{
    double targets[BLOCK], factor[BLOCK], correct[BLOCK], class_of[BLOCK], predicted[BLOCK];
    const row_results found = {losses, targets, factor, confidence, correct, class_of, predicted};
    if (!score_rows(job, base, block, &job->baseline, &found, fault))
        return 0;
    weigh(job, block, losses);
    return 1;
}

static int has_weights(const job *job)
{
    return job->weight.axes || job->class_weight.axes;
}

/* Multiply the weights of a block's rows by what the losses' functions say: those of classes. */
static void finish_row_weights(const job *job, block *block)
{
    for (int i = 0; job->class_weight.axes && i < block->count; i++)
        block->weight[i] = job->weight.axes ? block->weight[i] * block->factor[i] : block->factor[i];
    if (job->class_weight.axes && block->dropped)
        stand_in(block->kept, block->count, block->weight, 0.0);
}

static int padded(int count)
{
    return (count + LANES - 1) / LANES * LANES;
}

static void pad(double *values, int count)
{
    for (int i = count; i < padded(count); i++)
        values[i] = 0.0;
}

/* Reducers */

/* Add to the sums of all elements; a report sums the losses by row. */
static void add_totals(const job *job, block *block, int by_row, share *share)
{
    const int count = block->count;
    if (!by_row) {
        pad(block->loss, count);
        add_block(&share->loss, block->loss, count);
    }
    if (block->ones >= 0.0)
        add_number(&share->positives, block->ones);
    else
        add_plain(&share->positives, block->y, count);
    if (has_weights(job))
        add_plain(&share->weight, block->weight, count);
    if (!block->dropped) {
        share->count += count;
        return;
    }
    double kept = 0.0;
    for (int i = 0; i < count; i++)
        kept += block->kept[i];
    share->count += (int64_t)kept;
}

/* Where the sums of a row of the innermost axis belong. */
static int64_t output_of(const part *part, int64_t row)
{
    int64_t output = 0, scale = 1;
    for (int axis = part->axes - 2; axis >= 0; axis--) {
        int64_t place = row % part->length[axis];
        row /= part->length[axis];
        if (!part->reduced[axis]) {
            output += place * scale;
            scale *= part->length[axis];
        }
    }
    return output;
}

/* Add a run of elements that all belong to one output. */
static void add_run(plane_sums *sums, int64_t output, const double *values, int count)
{
    double totals[CUTS], copy[BLOCK];
    int rest = 1;
    if (count >= 16) {
        memcpy(copy, values, sizeof *copy * (size_t)count);
        pad(copy, count);
        if (cut_block(copy, count, totals, &rest)) {
            for (int level = 0; level < CUTS; level++)
                add_to_plane(sums, output, totals[level]);
            for (int i = 0; rest && i < count; i++)
                add_to_plane(sums, output, beyond_cuts(values[i]));
            return;
        }
    }
    for (int i = 0; i < count; i++)
        add_to_plane(sums, output, values[i]);
}

/* Add values, which are used up, to the outputs that they belong to.
 *
 * `place` is where the first of them is in the part, `first` the output that `sums` begin with.
 */
static void add_outputs(const part *part, int64_t place, double *values, int count, plane_sums *sums,
                        int64_t first)
{
    const int inner = part->axes - 1;
    const int64_t length = part->length[inner];
    while (count > 0) {
        int64_t row = place / length, column = place % length;
        int run = length - column < count ? (int)(length - column) : count;
        int64_t output = output_of(part, row);
        if (part->reduced[inner])
            add_run(sums, output - first, values, run);
        else
            add_planes(sums, output * length + column - first, values, run);
        place += run;
        values += run;
        count -= run;
    }
}

/* What each element adds to its output's divisor. */
static double *divisors(const job *job, block *block)
{
    if (job->divisor == DIVISOR_WEIGHT)
        return block->weight;
    if (job->divisor == DIVISOR_POSITIVES)
        return block->y;
    if (!block->dropped)
        for (int i = 0; i < block->count; i++)
            block->kept[i] = 1.0;
    return block->kept;
}

static void write_out(const double *values, int count, double *to)
{
    for (int i = 0; i < count; i++)
        to[i] = values[i] == values[i] ? values[i] + 0.0 : NAN; /* one NaN, and no -0 */
}

/* The number of elements of the block at `from`: whole rows, or some of one row, where there is a report.
 *
 * Some of a row are whole lines of all classes, if a block has room for one.
 */
static int block_length(const report *report, int64_t from, int64_t to)
{
    int64_t unit = 1, end = to;
    if (report && report->row_size <= BLOCK)
        unit = report->row_size;
    else if (report) {
        end = from + report->row_size - from % report->row_size;
        if (report->class_inner == 1 && report->classes && report->classes <= BLOCK)
            unit = report->classes;
    }
    const int64_t most = BLOCK / unit * unit, left = end < to ? end - from : to - from;
    return (int)(left < most ? left : most);
}

/* The losses of a block that has been read, and of its baseline, and what a report has of them. */
static int reduce_block(const job *job, const report *report, const part *part, const char *base, block *block,
                        share *share)
{
    double baseline[BLOCK], baseline_x[BLOCK];
    const int64_t at = block->start - part->start;
    const int paired = report && report->paired, by_row = has_rows(job);
    if (by_row) {
        if (!score_inputs_by_row(job, base, report != NULL, block, &share->fault) ||
            (paired && !score_baseline_by_row(job, base, block, baseline, baseline_x, &share->fault)))
            return 0;
        finish_row_weights(job, block);
    } else if (part->given[0])
        memcpy(block->loss, part->given[0] + at, sizeof(double) * (size_t)block->count);
    else
        score_inputs(job, block, block->x, block->loss);
    if (paired && !by_row && !read_baseline(job, base, block, baseline_x, &share->fault))
        return 0;
    if (paired && part->given[1])
        memcpy(baseline, part->given[1] + at, sizeof(double) * (size_t)block->count);
    else if (paired && !by_row)
        score_inputs(job, block, baseline_x, baseline);
    add_totals(job, block, report != NULL, share);
    if (report)
        add_figures(job, report, base, block, paired ? baseline : NULL, baseline_x, &share->loss, &share->figures);
    return 1;
}

/* Score the elements [from, to) of a part, counted from its first; 0 where a value is not allowed. */
static int score_range(const job *job, const report *report, const part *part, const char *base, int64_t from,
                       int64_t to, share *share, int64_t first)
{
    block block;
    for (; from < to; from += block.count) {
        block.count = block_length(report, from, to);
        block.start = part->start + from;
        if (!(has_rows(job) ? read_row_block(job, base, &block, &share->fault)
                            : read_block(job, base, &block, &share->fault)) ||
            !reduce_block(job, report, part, base, &block, share))
            return 0;
        if (!part->memory[0])
            continue;
        if (part->elementwise) {
            write_out(block.loss, block.count, part->memory[0] + from);
            if (part->memory[1])
                write_out(divisors(job, &block), block.count, part->memory[1] + from);
            continue;
        }
        if (part->memory[1])
            add_outputs(part, from, divisors(job, &block), block.count, &share->planes[1], first);
        add_outputs(part, from, block.loss, block.count, &share->planes[0], first);
    }
    return 1;
}

/* A part, shared between threads. */

typedef struct {
    const job *job;
    const report *report;
    const part *part;
    const char *base;
    share *shares;
    int threads;
    double *planes[2]; /* [capacity][outputs]: the part's memory, or where sums are kept until they are rounded */
    int64_t inner;     /* elements in a step along the outermost axis */
    int64_t next;      /* the chunk that nobody has taken yet */
    int64_t stop;      /* no chunk from here on is wanted: an earlier one is at fault */
} call;

/* Several threads add to the same outputs, each to planes of its own at first. */
static int shares_outputs(const call *call)
{
    return call->threads > 1 && call->part->reduced[0];
}

/* Take chunks as long as there are any. */
static void take_chunks(call *call, share *share)
{
    const int64_t size = call->part->stop - call->part->start, row = call->report ? call->report->row_size : 1;
    const int64_t numbers = row * call->job->row_size;
    const int64_t chunk = numbers < CHUNK && numbers ? CHUNK / numbers * row : row;
    for (;;) {
        int64_t from = __atomic_fetch_add(&call->next, chunk, __ATOMIC_RELAXED);
        if (from >= size || from >= __atomic_load_n(&call->stop, __ATOMIC_RELAXED))
            return;
        int64_t to = size - from < chunk ? size : from + chunk;
        if (!score_range(call->job, call->report, call->part, call->base, from, to, share, 0)) {
            __atomic_store_n(&call->stop, from, __ATOMIC_RELAXED);
            return;
        }
    }
}

/* Score this thread's stretch of the outermost axis. */
static void take_stretch(call *call, share *share, int index)
{
    const part *part = call->part;
    const int64_t unit = call->report ? call->report->row_size / call->inner : 1; /* steps of a row */
    const int64_t steps = part->length[0], units = steps / unit;
    const int64_t from = units * index / call->threads * unit, to = units * (index + 1) / call->threads * unit;
    const int64_t each = part->reduced[0] ? 0 : part->outputs / steps, first = each * from;
    for (int channel = 0; channel < 2 && part->memory[channel]; channel++) {
        plane_sums *sums = &share->planes[channel];
        sums->length = part->reduced[0] ? part->outputs : each * (to - from);
        sums->stride = part->outputs;
        sums->capacity = part->capacity;
        sums->plane = call->planes[channel] + first;
        if (shares_outputs(call)) {
            int64_t most = (to - from) * call->inner / part->outputs + 1;
            sums->capacity = most < part->capacity ? (int)most : part->capacity;
            sums->plane = malloc(sizeof(double) * (size_t)(part->outputs * sums->capacity));
            if (!sums->plane) {
                share->fault.rule = RULE_MEMORY;
                return;
            }
        }
    }
    if (score_range(call->job, call->report, part, call->base, from * call->inner, to * call->inner, share, first) &&
        part->rounded && !shares_outputs(call))
        for (int channel = 0; channel < 2 && part->memory[channel]; channel++)
            round_planes(&share->planes[channel]);
}

static void run_share(void *argument, int index)
{
    call *call = argument;
    share *share = call->shares + index;
    control_word before = set_rounding();
    memset(share, 0, sizeof *share);
    if (call->report)
        open_figures(call->report, &share->figures);
    if (share->figures.failed)
        share->fault.rule = RULE_MEMORY;
    else if (call->planes[0])
        take_stretch(call, share, index);
    else
        take_chunks(call, share);
    if (call->report)
        settle_figures(call->job, call->report, &share->loss, &share->figures);
    restore_rounding(before);
}

/* Put the threads' planes of a channel together; how many there are. */
static int join_planes(const call *call, int channel)
{
    const part *part = call->part;
    plane_sums all = {call->planes[channel], part->outputs, part->outputs, 0, part->capacity};
    if (shares_outputs(call)) {
        for (int i = 0; i < call->threads; i++) {
            const plane_sums *its = &call->shares[i].planes[channel];
            for (int p = 0; p < its->count; p++)
                for (int64_t at = 0; at < all.length; at += BLOCK) {
                    int run = all.length - at < BLOCK ? (int)(all.length - at) : BLOCK;
                    add_planes(&all, at, its->plane + p * its->stride + at, run);
                }
        }
        if (part->rounded)
            round_planes(&all);
    } else {
        for (int i = 0; i < call->threads; i++)
            if (call->shares[i].planes[channel].count > all.count)
                all.count = call->shares[i].planes[channel].count;
        for (int i = 0; i < call->threads; i++)
            while (call->shares[i].planes[channel].count < all.count)
                open_plane(&call->shares[i].planes[channel]);
    }
    if (part->rounded)
        memcpy(part->memory[channel], call->planes[channel], sizeof(double) * (size_t)part->outputs);
    return all.count;
}

/* Find room for the sums of outputs, if there are several; 0 if there is none. */
static int open_planes(call *call)
{
    const part *part = call->part;
    for (int channel = 0; channel < 2 && part->memory[channel] && !part->elementwise; channel++) {
        call->planes[channel] = part->memory[channel];
        if (part->rounded)
            call->planes[channel] = malloc(sizeof(double) * (size_t)(part->outputs * part->capacity));
        if (!call->planes[channel])
            return 0;
    }
    return 1;
}

static void close_planes(call *call)
{
    for (int channel = 0; channel < 2; channel++) {
        for (int i = 0; shares_outputs(call) && call->planes[0] && i < call->threads; i++)
            free(call->shares[i].planes[channel].plane);
        if (call->part->rounded)
            free(call->planes[channel]);
    }
}

static void choose_threads(call *call, int threads)
{
    const int64_t size = call->part->stop - call->part->start;
    int64_t most = size * call->job->row_size / (4 * BLOCK), rows = call->report ? size / call->report->row_size : size;
    call->inner = size / call->part->length[0];
    if (call->planes[0])
        most = call->part->length[0] < most ? call->part->length[0] : most;
    most = rows < most ? rows : most;
    most = most < threads ? most : threads;
    if (most > 1) {
        share *shares = malloc(sizeof(share) * (size_t)most);
        if (shares) {
            call->shares = shares;
            call->threads = (int)most;
        }
    }
}

/* Put the threads' figures together and write them; they are closed in any case. */
static void finish_report(const call *call, result *result)
{
    figures *all = &call->shares[0].figures;
    for (int i = 1; i < call->threads && !result->fault.rule; i++)
        join_figures(call->report, all, &call->shares[i].figures);
    if (!result->fault.rule)
        result->report_bytes = write_figures(call->report, all, call->part->report, call->part->report_bytes);
    if (result->report_bytes < 0)
        result->fault.rule = RULE_MEMORY;
    for (int i = 0; i < call->threads; i++)
        close_figures(&call->shares[i].figures);
}

/* Check the weights of classes, which all rows share; 0: one was refused. */
static int check_class_weight(const job *job, const char *base, fault *fault)
{
    double weights[BLOCK];
    for (int64_t from = 0; job->class_weight.axes && from < job->row_size; from += BLOCK) {
        const int count = job->row_size - from < BLOCK ? (int)(job->row_size - from) : BLOCK;
        read_elements(&job->class_weight, base, from, count, weights);
        if (!check(fault, RULE_CLASS_WEIGHT, weights, weights, count, 0.0, DBL_MAX, 0, from))
            return 0;
    }
    return 1;
}

/* Score a part on up to so many threads. The job's tensors are counted from `base`; `report` may be NULL. */
VISIBLE void KERNEL_NAME(const job *job, const report *report, const part *part, const char *base, int64_t offset,
                         int threads, result *result)
{
    share one;
    call call = {job, report, part, base + offset, &one, 1, {NULL, NULL}, 0, 0, INT64_MAX};
    memset(result, 0, offsetof(struct result, term));
    if (!check_class_weight(job, call.base, &result->fault))
        return;
    if (!open_planes(&call)) {
        result->fault.rule = RULE_MEMORY;
        close_planes(&call);
        return;
    }
    choose_threads(&call, threads);
    if (call.threads > 1)
        lossd_run_on_threads(run_share, &call, call.threads);
    else
        run_share(&call, 0);

    control_word before = set_rounding();
    share *all = call.shares;
    for (int i = 1; i < call.threads; i++) {
        share *other = call.shares + i;
        add_sum(&all->loss, &other->loss);
        add_sum(&all->weight, &other->weight);
        add_sum(&all->positives, &other->positives);
        all->count += other->count;
        if (other->fault.rule && (!all->fault.rule || other->fault.position < all->fault.position))
            all->fault = other->fault;
    }
    result->fault = all->fault;
    result->count = all->count;
    if (!all->fault.rule) {
        result->terms[0] = sum_terms(&all->loss, result->term[0]);
        result->terms[1] = has_weights(job) ? sum_terms(&all->weight, result->term[1]) : 0;
        result->terms[2] = sum_terms(&all->positives, result->term[2]);
        for (int channel = 0; channel < 2 && part->memory[channel]; channel++)
            result->planes[channel] = part->elementwise ? 1 : join_planes(&call, channel);
    }
    if (report)
        finish_report(&call, result);
    close_planes(&call);
    if (call.threads > 1)
        free(call.shares);
    restore_rounding(before);
}

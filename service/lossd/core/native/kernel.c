/* The losses on a CPU: from the bytes of a request to exact sums, in one pass.
 *
 * A block of elements at a time is read as float64 (load.h), checked, turned into losses (elements.h) and added
 * up (exact_sum.h) or written out. This file is compiled once for each vector width, with KERNEL_NAME saying by
 * which name; all widths, and lossd.core.losses.elements in torch, give the same bits: there is no fused
 * multiply-add, no function of a library whose bits differ between machines, and no sum that depends on order.
 *
 * Any number of threads may call it at once: nothing is static but the pool of threads (pool.c).
 */
#include <stddef.h>
#include <stdlib.h>

#include "elements.h"
#include "exact_sum.h"
#include "kernel.h"
#include "load.h"
#include "pool.h"
#include "report.h"

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

/* Checks */

/* Whether any value is outside [least, greatest], or NaN. */
static int any_outside(const double *values, int count, double least, double greatest)
{
    int64_t outside = 0;
    for (int i = 0; i < count; i++)
        outside |= !(values[i] >= least) | !(values[i] <= greatest);
    return outside != 0;
}

/* Note the first value outside [0, greatest], in place of a fault that is further behind. */
static int check(share *share, int rule, const double *values, const double *shown, int count, double least,
                 double greatest, int allow_nan, int64_t start)
{
    if (!any_outside(values, count, least, greatest))
        return 1;
    for (int i = 0; i < count; i++) {
        int nan = isnan(values[i]);
        if (nan ? allow_nan : values[i] >= least && values[i] <= greatest)
            continue;
        share->fault.rule = rule;
        share->fault.nan = nan;
        share->fault.position = start + i;
        share->fault.value = shown[i];
        return 0;
    }
    return 1;
}

/* Steps of a block */

static void read_targets(const job *job, const char *base, int64_t start, block *block, double *ids)
{
    const int count = block->count;
    double *y = block->y, *kept = block->kept;
    read_elements(&job->targets, base, start, count, y);
    block->dropped = job->mask.axes || job->ignores;
    if (job->mask.axes)
        read_elements(&job->mask, base, start, count, kept);
    if (job->ignores) {
        const double ignored = job->ignored;
        const int nan = job->ignores == IGNORE_NAN, mask = job->mask.axes != 0;
        for (int i = 0; i < count; i++) {
            const int drop = nan ? y[i] != y[i] : y[i] == ignored;
            const double kind = mask ? kept[i] : 1.0;
            kept[i] = drop && (kind == 0.0 || kind == 1.0) ? 0.0 : kind; /* what is no mask is to be seen */
        }
    }
    if (block->dropped)
        for (int i = 0; i < count; i++)
            y[i] = kept[i] != 0.0 ? y[i] : 0.0;
    if (!job->classes)
        return;
    int64_t inner = start % job->class_inner, class = start / job->class_inner % job->classes;
    for (int i = 0; i < count; i++) {
        double id = y[i];
        int background = job->has_background && id == job->background;
        ids[i] = background ? 0.0 : id;
        y[i] = !background && id == (double)class && (!block->dropped || kept[i] != 0.0) ? 1.0 : 0.0;
        if (++inner == job->class_inner) {
            inner = 0;
            if (++class == job->classes)
                class = 0;
        }
    }
}

static void stand_in(const block *block, double *values, double value)
{
    for (int i = 0; i < block->count; i++)
        values[i] = block->kept[i] != 0.0 ? values[i] : value;
}

/* Read a block, and check it: 0 where a value is not allowed. */
static int read_block(const job *job, const char *base, int64_t start, block *block, share *share)
{
    double ids[BLOCK], parts[BLOCK];
    const int count = block->count, nan = job->allow_nan;
    read_targets(job, base, start, block, ids);
    if (job->mask.axes && !check(share, RULE_MASK, block->kept, block->kept, count, 0.0, 1.0, 0, start))
        return 0;
    if (job->classes) {
        if (!check(share, RULE_CLASS, ids, ids, count, 0.0, (double)(job->classes - 1), 0, start))
            return 0;
        for (int i = 0; i < count; i++)
            parts[i] = ids[i] - (double)(int64_t)ids[i];
        if (!check(share, RULE_WHOLE, parts, ids, count, 0.0, 0.0, 0, start))
            return 0;
    } else if (!check(share, RULE_TARGET, block->y, block->y, count, 0.0, 1.0, nan, start)) {
        return 0;
    }
    read_elements(&job->inputs, base, start, count, block->x);
    if (block->dropped)
        stand_in(block, block->x, job->formula.probabilities ? 0.5 : 0.0);
    const double least = job->formula.probabilities ? 0.0 : -INFINITY;
    const double greatest = job->formula.probabilities ? 1.0 : INFINITY;
    if (!check(share, RULE_INPUTS, block->x, block->x, count, least, greatest, nan, start))
        return 0;
    if (job->weight.axes) {
        read_elements(&job->weight, base, start, count, block->weight);
        if (block->dropped)
            stand_in(block, block->weight, 0.0);
        if (!check(share, RULE_WEIGHT, block->weight, block->weight, count, 0.0, DBL_MAX, nan, start))
            return 0;
    }
    if (job->pos_weight.axes) {
        read_elements(&job->pos_weight, base, start, count, block->pos_weight);
        if (block->dropped)
            stand_in(block, block->pos_weight, 1.0);
        if (!check(share, RULE_POS_WEIGHT, block->pos_weight, block->pos_weight, count, 0.0, DBL_MAX, nan,
                   start))
            return 0;
    }
    if (job->alpha.axes)
        read_elements(&job->alpha, base, start, count, block->alpha);
    return 1;
}

/* Read the inputs of a block's baseline, and check them. */
static int read_baseline(const job *job, const char *base, const block *block, double *x, share *share)
{
    const int probabilities = job->formula.probabilities;
    read_elements(&job->baseline, base, block->start, block->count, x);
    if (block->dropped)
        stand_in(block, x, probabilities ? 0.5 : 0.0);
    return check(share, RULE_BASELINE, x, x, block->count, probabilities ? 0.0 : -INFINITY,
                 probabilities ? 1.0 : INFINITY, job->allow_nan, block->start);
}

/* The weighted losses of some inputs of a block that has been read. */
static void score_inputs(const job *job, const block *block, const double *x, double *losses)
{
    const int count = block->count;
    lossd_elements(&job->formula, count, x, block->y, job->pos_weight.axes ? block->pos_weight : NULL,
                   job->alpha.axes ? block->alpha : NULL, losses);
    if (job->weight.axes)
        for (int i = 0; i < count; i++) {
            double loss = losses[i], weight = block->weight[i];
            losses[i] = weight == 0.0 && loss == loss ? 0.0 : weight * loss; /* no 0 times infinity */
        }
    if (block->dropped)
        stand_in(block, losses, 0.0);
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
    add_plain(&share->positives, block->y, count);
    if (job->weight.axes)
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
    const int paired = report && report->paired;
    if (part->given[0])
        memcpy(block->loss, part->given[0] + at, sizeof(double) * (size_t)block->count);
    else
        score_inputs(job, block, block->x, block->loss);
    if (paired && !read_baseline(job, base, block, baseline_x, share))
        return 0;
    if (paired && part->given[1])
        memcpy(baseline, part->given[1] + at, sizeof(double) * (size_t)block->count);
    else if (paired)
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
        if (!read_block(job, base, block.start, &block, share) ||
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
    const int64_t chunk = row < CHUNK ? CHUNK / row * row : row;
    for (;;) {
        int64_t from = __atomic_fetch_add(&call->next, chunk, __ATOMIC_RELAXED);
        if (from >= size || from >= __atomic_load_n(&call->stop, __ATOMIC_RELAXED))
            return;
        int64_t to = size - from < chunk ? size : from + chunk;
        if (!score_range(call->job, call->report, call->part, call->base, from, to, share, 0)) {
            __atomic_store_n(&call->stop, 0, __ATOMIC_RELAXED);
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
    int64_t most = size / (4 * BLOCK), rows = call->report ? size / call->report->row_size : size;
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

/* Score a part on up to so many threads. The job's tensors are counted from `base`; `report` may be NULL. */
VISIBLE void KERNEL_NAME(const job *job, const report *report, const part *part, const char *base, int64_t offset,
                         int threads, result *result)
{
    share one;
    call call = {job, report, part, base + offset, &one, 1, {NULL, NULL}, 0, 0, INT64_MAX};
    memset(result, 0, offsetof(struct result, term));
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
        result->terms[1] = job->weight.axes ? sum_terms(&all->weight, result->term[1]) : 0;
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

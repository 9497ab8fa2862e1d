/* What a thread has come to in a report: sums, counts, lists, groups. */
#ifndef LOSSD_REPORT_FIGURES_H
#define LOSSD_REPORT_FIGURES_H

#include <stdlib.h>
#include "exact_sum.h"
#include "kernel.h"

#define FIRST_PLANES 4
#define HISTOGRAM_BINS 65536 /* then zero, infinite, NaN */
#define HISTOGRAM_CELLS (HISTOGRAM_BINS + 3)
#define USED 64
enum { BETTER, WORSE, EQUAL, UNDEFINED, PAIRS };
enum { TOP_ROWS, TOP_ELEMENTS, WORSE_ROWS, WORSE_ELEMENTS, BETTER_ROWS, BETTER_ELEMENTS, LISTS };

typedef struct {
    double x[BLOCK], y[BLOCK], weight[BLOCK], pos_weight[BLOCK], alpha[BLOCK], kept[BLOCK], loss[BLOCK];
    /* Where rows have losses: their ids, and what row_results has of them for a report; x is the confidence. */
    double ids[BLOCK], factor[BLOCK], confidence[BLOCK], correct[BLOCK], class_of[BLOCK], predicted[BLOCK];
    double ones;   /* how many targets are 1, if all are seen to be 0 or 1; else -1 */
    int count;     /* losses */
    int dropped;   /* some are dropped: `kept` says which */
    int64_t start; /* the first element's place in the request */
} block;

/* Rows that end in a block. */
typedef struct {
    double sum[BLOCK], share[BLOCK], loss[BLOCK], baseline_sum[BLOCK], baseline_loss[BLOCK];
    int64_t row[BLOCK], kept[BLOCK];
    int count;
} ended_rows;

/* An entry of a list; lossd.core.report.partial has the same. */
typedef struct {
    double key, loss, baseline, input, baseline_input, target;
    int64_t row, position, id;
} entry;

/* The greatest entries, as a heap whose first one is the least. */
typedef struct {
    entry *entries;
    int count;
} list;

/* Figures of each group of rows. */
typedef struct {
    plane_sums *sums; /* [groups] */
    int64_t *counts;  /* [groups][group_counts] */
    int64_t *ids;     /* [groups][columns] */
    int64_t *slots;   /* a hash table of groups; -1 is free */
    int64_t count, capacity, last;
    int slot_bits;
} group_table;

/* The sums of a row that does not end in the block in which it begins. */
typedef struct {
    wide_sum loss, share, baseline;
    int64_t kept;
} open_row;

/* A cell of the calibration, in whole numbers: a class's score bin, or a value of 16 bits. */
typedef struct {
    int64_t counts;    /* 2^32 times the number of elements, and the number of targets of 1 */
    int64_t high, low; /* probabilities, in units of 2^-42 and 2^-84 */
} cell;

/* Sums by class of some lines of all classes, which are not in the planes yet: exact ones of each cut. */
typedef struct {
    double *cut[CUTS]; /* of `length` numbers each, those of the arrays' first sums */
    int64_t length;
    int count; /* lines */
} line_sums;

/* What a thread has come to. */
typedef struct {
    wide_sum *single;
    plane_sums arrays;
    line_sums lines;
    int64_t *counts;
    unsigned char *used; /* for each USED counts whether there is one; else they hold nothing yet */
    cell *cells;       /* of the calibration */
    int64_t cell_adds; /* since they were moved to the sums */
    int64_t kept_rows; /* where rows of one element are only counted */
    group_table groups;
    list lists[LISTS];
    open_row open;
    int failed; /* there was no memory */
} figures;

static void *zeros(int64_t count, size_t size, figures *figures)
{
    void *memory = calloc((size_t)(count > 0 ? count : 1), size);
    if (!memory)
        figures->failed = 1;
    return memory;
}

static void close_figures(figures *figures)
{
    free(figures->single);
    free(figures->arrays.plane);
    free(figures->lines.cut[0]);
    free(figures->counts);
    free(figures->used);
    free(figures->cells);
    for (int64_t g = 0; g < figures->groups.count; g++)
        free(figures->groups.sums[g].plane);
    free(figures->groups.sums);
    free(figures->groups.counts);
    free(figures->groups.ids);
    free(figures->groups.slots);
    for (int i = 0; i < LISTS; i++)
        free(figures->lists[i].entries);
}

/* Counts of histograms are many, of which few are used: others are zero from the start. */
static void open_counts(const report *report, figures *figures)
{
    const int64_t groups = report->counts / USED + 1, first = report->at.histogram_elements;
    figures->used = zeros(groups, 1, figures);
    figures->counts = malloc(sizeof(int64_t) * (size_t)(groups * USED));
    if (!figures->counts || !figures->used) {
        figures->failed = 1;
        return;
    }
    for (int64_t g = 0; g < groups; g++)
        if (first < 0 || g * USED < first || (g + 1) * USED > report->at.histogram_rows + HISTOGRAM_CELLS) {
            memset(figures->counts + g * USED, 0, sizeof(int64_t) * USED);
            figures->used[g] = 1;
        }
}

/* Add to one of a histogram's counts. */
static inline void add_count(figures *figures, int64_t index, int64_t count)
{
    const int64_t group = index / USED;
    if (!figures->used[group]) {
        memset(figures->counts + group * USED, 0, sizeof(int64_t) * USED);
        figures->used[group] = 1;
    }
    figures->counts[index] += count;
}

static void open_lines(const report *report, figures *figures)
{
    line_sums *lines = &figures->lines;
    const int64_t end = report->at.class_sum + report->classes * (2 + report->weighted + 2 * report->paired);
    if (!report->classes || report->classes > BLOCK || report->class_inner > 1 || report->by_target)
        return;
    lines->length = end - report->single_sums;
    lines->cut[0] = zeros(CUTS * lines->length, sizeof(double), figures);
    for (int level = 1; level < CUTS; level++)
        lines->cut[level] = lines->cut[0] + level * lines->length;
}

static void open_figures(const report *report, figures *figures)
{
    memset(figures, 0, sizeof *figures);
    figures->single = zeros(report->single_sums, sizeof(wide_sum), figures);
    open_counts(report, figures);
    open_lines(report, figures);
    figures->arrays.length = figures->arrays.stride = report->sums - report->single_sums;
    if (report->at.bin_count >= 0)
        figures->cells = zeros(report->calibration_cells, sizeof(cell), figures);
    for (int i = 0; i < LISTS; i++)
        if (report->top && (i < WORSE_ROWS || report->paired))
            figures->lists[i].entries = zeros(report->top, sizeof(entry), figures);
    figures->groups.last = -1;
}

/* Have room for a further number of each sum; 0 if there is no memory. */
static int make_room(plane_sums *sums, figures *figures)
{
    if (sums->count + 1 < sums->capacity || sums->capacity == MOST_PLANES)
        return 1;
    int capacity = sums->capacity ? 2 * sums->capacity : FIRST_PLANES;
    double *plane = realloc(sums->plane, sizeof(double) * (size_t)(sums->length * capacity));
    if (!plane) {
        figures->failed = 1;
        return 0;
    }
    sums->plane = plane;
    sums->capacity = capacity;
    return 1;
}

static void add_one(plane_sums *sums, int64_t place, double value, figures *figures)
{
    if (value != 0.0 && make_room(sums, figures))
        add_to_plane(sums, place, value);
}

/* Add values that belong to places one behind the other. */
static void add_side_by_side(plane_sums *sums, int64_t first, const double *values, int count, figures *figures)
{
    double copy[BLOCK];
    if (!make_room(sums, figures))
        return;
    memcpy(copy, values, sizeof *copy * (size_t)count);
    add_planes(sums, first, copy, count);
}

static wide_sum *single(const figures *figures, int64_t index)
{
    return figures->single + index;
}

static int is_kept(const block *block, int i)
{
    return !block->dropped || block->kept[i] != 0.0;
}

#endif

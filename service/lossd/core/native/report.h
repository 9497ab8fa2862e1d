/* The figures of a report over a part of a request: sums, counts and lists beside the loss's own sums.
 *
 * Each reducer is one function over a block of elements or of rows, and runs only where its section is asked
 * for. A row is an index of the request's first axis; a part holds whole rows. All sums are exact
 * (exact_sum.h), so neither blocks nor threads matter. lossd.core.report.definition has the same in Python,
 * lossd.core.report.layout says which figure has which index.
 */
#ifndef LOSSD_REPORT_H
#define LOSSD_REPORT_H

#include <stdlib.h>

#include "elements.h"
#include "exact_sum.h"
#include "kernel.h"
#include "load.h"

#define FIRST_PLANES 4
#define HISTOGRAM_BINS 65536 /* then zero, infinite, NaN */
enum { BETTER, WORSE, EQUAL, UNDEFINED, PAIRS };
enum { TOP_ROWS, TOP_ELEMENTS, WORSE_ROWS, WORSE_ELEMENTS, BETTER_ROWS, BETTER_ELEMENTS, LISTS };

typedef struct {
    double x[BLOCK], y[BLOCK], weight[BLOCK], pos_weight[BLOCK], alpha[BLOCK], kept[BLOCK], loss[BLOCK];
    int count;     /* elements */
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

/* What a thread has come to. */
typedef struct {
    wide_sum *single;
    plane_sums arrays;
    int64_t *counts;
    unsigned __int128 *probability; /* by calibration cell, in units of 2^-96 */
    int64_t *positives;             /* by calibration cell, targets of 1 */
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
    free(figures->counts);
    free(figures->probability);
    free(figures->positives);
    for (int64_t g = 0; g < figures->groups.count; g++)
        free(figures->groups.sums[g].plane);
    free(figures->groups.sums);
    free(figures->groups.counts);
    free(figures->groups.ids);
    free(figures->groups.slots);
    for (int i = 0; i < LISTS; i++)
        free(figures->lists[i].entries);
}

static void open_figures(const report *report, figures *figures)
{
    memset(figures, 0, sizeof *figures);
    figures->single = zeros(report->single_sums, sizeof(wide_sum), figures);
    figures->counts = zeros(report->counts, sizeof(int64_t), figures);
    figures->arrays.length = figures->arrays.stride = report->sums - report->single_sums;
    if (report->at.bin_count >= 0)
        figures->positives = zeros(report->calibration_cells, sizeof(int64_t), figures);
    if (report->at.bin_probability >= 0)
        figures->probability = zeros(report->calibration_cells, 16, figures);
    for (int i = 0; i < LISTS; i++)
        if (report->top && (i < WORSE_ROWS || report->paired))
            figures->lists[i].entries = zeros(report->top, sizeof(entry), figures);
    figures->groups.last = -1;
}

/* Sums side by side */

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

/* Terms of a few numbers' exact sum, not canonical. */

typedef struct {
    double term[MOST_TERMS];
    int count;
} terms;

static void terms_by_wide_sum(const double *values, int count, terms *terms)
{
    wide_sum sum;
    clear_sum(&sum);
    for (int i = 0; i < count; i++)
        add_number(&sum, values[i]);
    terms->count = sum_terms(&sum, terms->term);
}

/* The terms of at most BLOCK numbers >= 0. */
static void terms_of(const double *values, int count, terms *terms)
{
    double padded[BLOCK];
    int rest;
    if (count < 3) {
        terms->count = 2;
        terms->term[0] = count ? values[0] : 0.0;
        terms->term[1] = 0.0;
        if (count > 1)
            terms->term[0] = two_sum(values[0], values[1], &terms->term[1]);
        return;
    }
    if (count % LANES) {
        memcpy(padded, values, sizeof *padded * (size_t)count);
        for (int i = count; i % LANES; i++)
            padded[i] = 0.0;
        values = padded;
    }
    terms->count = CUTS;
    if (!cut_block(values, count, terms->term, &rest) || rest)
        terms_by_wide_sum(values, count, terms);
}

/* Their sum, rounded to nearest even (Shewchuk's expansion, as in Python's math.fsum). */
static double round_terms(const terms *terms)
{
    double part[MOST_TERMS + 1], lost;
    int count = 0;
    if (terms->count == 1 || !(fabs(terms->term[0]) <= VERY_LARGE))
        return terms->term[0];
    for (int i = 0; i < terms->count; i++) {
        double value = terms->term[i];
        int used = 0;
        for (int j = 0; j < count; j++) {
            value = two_sum(value, part[j], &lost);
            if (lost != 0.0)
                part[used++] = lost;
        }
        part[used++] = value;
        count = used;
    }
    double sum = part[--count], rest = 0.0;
    while (count > 0 && rest == 0.0)
        sum = two_sum(sum, part[--count], &rest);
    if (count > 0 && rest * part[count - 1] > 0.0) { /* a half, and more behind it */
        double twice = 2.0 * rest, up = sum + twice;
        if (twice == up - sum)
            sum = up;
    }
    return sum;
}

/* The same for the totals of cuts, of which mostly three are there. */
static inline double round_cuts(const terms *cuts)
{
    double lost, second, third;
    if (cuts->count != CUTS || cuts->term[3] != 0.0 || cuts->term[4] != 0.0)
        return round_terms(cuts);
    double rest = two_sum(cuts->term[1], cuts->term[2], &third);
    double sum = two_sum(cuts->term[0], rest, &second);
    second = two_sum(second, third, &lost);
    return lost == 0.0 ? sum + second : round_terms(cuts);
}

#define SHORT_ROW 16

/* The sum of a short row, rounded to nearest even: by two numbers where these hold it exactly. */
static inline double short_row_sum(const double *values, int size)
{
    double sum = values[0], rest = 0.0, lost, beyond = 0.0;
    for (int i = 1; i < size; i++) {
        sum = two_sum(sum, values[i], &lost);
        rest = two_sum(rest, lost, &lost);
        beyond += fabs(lost);
    }
    if (beyond == 0.0)
        return sum + rest;
    terms terms;
    terms_by_wide_sum(values, size, &terms);
    return terms.term[0];
}

static void add_terms(wide_sum *sum, const terms *terms)
{
    for (int i = 0; i < terms->count; i++)
        if (terms->term[i] != 0.0)
            add_number(sum, terms->term[i]);
}

static void add_terms_at(plane_sums *sums, int64_t place, const terms *terms, figures *figures)
{
    for (int i = 0; i < terms->count; i++)
        add_one(sums, place, terms->term[i], figures);
}

/* Add a run of elements to one sum of an array. */
static void add_run_at(plane_sums *sums, int64_t place, const double *values, int count, figures *figures)
{
    terms terms;
    terms_of(values, count, &terms);
    add_terms_at(sums, place, &terms, figures);
}

#define FEW_CLASSES 24

/* The same where classes are few, and elements of one class do not lie side by side. */
static void add_to_few_classes(const report *report, plane_sums *sums, int64_t field, int64_t start,
                               const double *values, int count, figures *figures)
{
    double its[BLOCK];
    const int classes = (int)report->classes, first = (int)(start % classes);
    for (int class = 0; class < classes; class++) {
        int n = 0;
        for (int i = (class - first + classes) % classes; i < count; i += classes)
            its[n++] = values[i];
        if (n)
            add_run_at(sums, field + class, its, n, figures);
    }
}

/* Add each element to its class's sum. */
static void add_by_class(const report *report, plane_sums *sums, int64_t field, int64_t start, const double *values,
                         int count, figures *figures)
{
    const int64_t inner = report->class_inner, classes = report->classes;
    if (classes == 1) {
        add_run_at(sums, field, values, count, figures);
        return;
    }
    if (inner == 1 && classes < FEW_CLASSES && count > 4 * classes) {
        add_to_few_classes(report, sums, field, start, values, count, figures);
        return;
    }
    int64_t at = start % (inner * classes);
    while (count > 0) {
        int64_t class = at / inner, left = inner == 1 ? classes - class : inner - at % inner;
        int run = left < count ? (int)left : count;
        if (inner == 1)
            add_side_by_side(sums, field + class, values, run, figures);
        else
            add_run_at(sums, field + class, values, run, figures);
        values += run;
        count -= run;
        at = (at + run) % (inner * classes);
    }
}

static void count_by_class(const report *report, int64_t *counts, int64_t start, const double *kept, int count)
{
    const int64_t inner = report->class_inner, classes = report->classes;
    int64_t within = start % inner, class = start / inner % classes;
    for (int i = 0; i < count; i++) {
        counts[class] += !kept || kept[i] != 0.0;
        if (++within == inner) {
            within = 0;
            if (++class == classes)
                class = 0;
        }
    }
}

/* Add numbers >= 0 to one sum. `values` has room up to a multiple of LANES. */
static void add_padded(wide_sum *sum, double *values, int count)
{
    for (int i = count; i % LANES; i++)
        values[i] = 0.0;
    add_block(sum, values, count);
}

/* The same for numbers that mostly have few bits. */
static void add_plain(wide_sum *sum, double *values, int count)
{
    double total;
    for (int i = count; i % LANES; i++)
        values[i] = 0.0;
    if (sum_plain_block(values, count, &total))
        add_number(sum, total);
    else
        add_block(sum, values, count);
}

static wide_sum *single(const figures *figures, int64_t index)
{
    return figures->single + index;
}

/* Lists */

/* Whether an entry stands before another one. */
static int is_before(const report *report, const entry *a, const entry *b)
{
    int nan = isnan(a->key), other = isnan(b->key);
    if (nan != other)
        return nan;
    if (!nan && a->key != b->key)
        return a->key > b->key;
    if (report->has_ids && a->id != b->id)
        return report->ids_unsigned ? (uint64_t)a->id < (uint64_t)b->id : a->id < b->id;
    if (!report->has_ids && a->row != b->row)
        return a->row < b->row;
    return a->position < b->position;
}

static void sink(const report *report, list *list, int at)
{
    for (;;) {
        int least = at;
        for (int child = 2 * at + 1; child <= 2 * at + 2 && child < list->count; child++)
            if (is_before(report, list->entries + least, list->entries + child))
                least = child;
        if (least == at)
            return;
        entry other = list->entries[at];
        list->entries[at] = list->entries[least];
        list->entries[least] = other;
        at = least;
    }
}

static void offer(const report *report, list *list, const entry *new)
{
    if (list->count == report->top) {
        if (is_before(report, new, list->entries)) {
            list->entries[0] = *new;
            sink(report, list, 0);
        }
        return;
    }
    int at = list->count++;
    list->entries[at] = *new;
    while (at > 0 && is_before(report, list->entries + (at - 1) / 2, list->entries + at)) {
        entry other = list->entries[at];
        list->entries[at] = list->entries[(at - 1) / 2];
        list->entries[(at - 1) / 2] = other;
        at = (at - 1) / 2;
    }
}

/* The key below which an entry need not be offered: a NaN, and one with an equal key, must be. */
static double least_key(const report *report, const list *list)
{
    if (list->count < report->top)
        return -INFINITY;
    return isnan(list->entries[0].key) ? INFINITY : list->entries[0].key;
}

static int any_key(const double *keys, int count, double least, int64_t equal)
{
    int64_t any = 0;
    for (int i = 0; i < count; i++)
        any |= (!(keys[i] <= least)) | (equal & (keys[i] == least));
    return any != 0;
}

static int64_t read_id(const column *column, const char *base, int64_t row)
{
    const char *from = base + column->offset + row * column->stride;
    uint64_t bits = 0;
    int size = column->size;
    char bytes[8];
    for (int i = 0; i < size; i++)
        bytes[i] = from[column->swapped ? size - 1 - i : i];
    memcpy(&bits, bytes, (size_t)size);
    if (column->is_signed && size < 8) {
        int shift = 64 - 8 * size;
        return (int64_t)(bits << shift) >> shift;
    }
    return (int64_t)bits;
}

static int64_t id_of(const report *report, const char *base, int64_t row)
{
    return report->has_ids ? read_id(&report->ids, base, row) : 0;
}

/* Offer the elements of a block with the greatest keys. */
static void list_elements(const report *report, const char *base, const block *block, const double *baseline,
                          const double *baseline_x, const double *keys, double sign, list *list)
{
    double signed_keys[64];
    for (int from = 0; from < block->count; from += 64) {
        int count = block->count - from < 64 ? block->count - from : 64;
        for (int i = 0; i < count; i++)
            signed_keys[i] = sign * keys[from + i];
        double least = least_key(report, list);
        if (!any_key(signed_keys, count, least, report->has_ids || list->count < report->top))
            continue;
        for (int i = 0; i < count; i++) {
            int at = from + i;
            if ((block->dropped && block->kept[at] == 0.0) || signed_keys[i] < least ||
                (baseline && !(signed_keys[i] > 0.0)))
                continue;
            int64_t place = block->start + at;
            entry new = {signed_keys[i], block->loss[at], 0.0, block->x[at] + 0.0, 0.0, block->y[at] + 0.0, /* no -0 */
                         place / report->row_size, place % report->row_size, 0};
            if (baseline) {
                new.baseline = baseline[at];
                new.baseline_input = baseline_x[at] + 0.0;
            }
            new.id = id_of(report, base, new.row);
            offer(report, list, &new);
            least = least_key(report, list);
        }
    }
}

static void list_row(const report *report, const char *base, double key, double loss, double baseline, int64_t row,
                     list *list)
{
    if (key < least_key(report, list))
        return;
    entry new = {key, loss, baseline, 0.0, 0.0, 0.0, row, 0, id_of(report, base, row)};
    offer(report, list, &new);
}

/* Groups */

static uint64_t hash_ids(const int64_t *ids, int columns)
{
    uint64_t hash = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < columns; i++) {
        hash ^= (uint64_t)ids[i];
        hash *= 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    return hash;
}

/* Have room for a further group; 0 if there is no memory. */
static int grow_groups(const report *report, group_table *table, figures *figures)
{
    if (table->count < table->capacity)
        return 1;
    int64_t capacity = table->capacity ? 2 * table->capacity : 16;
    int bits = table->slot_bits ? table->slot_bits + 1 : 5;
    plane_sums *sums = realloc(table->sums, sizeof *sums * (size_t)capacity);
    table->sums = sums ? sums : table->sums;
    int64_t *counts = realloc(table->counts, sizeof *counts * (size_t)(capacity * report->group_counts));
    table->counts = counts ? counts : table->counts;
    int64_t *ids = realloc(table->ids, sizeof *ids * (size_t)(capacity * report->columns));
    table->ids = ids ? ids : table->ids;
    int64_t *slots = malloc(sizeof *slots << bits);
    if (!sums || !counts || !ids || !slots) {
        free(slots);
        figures->failed = 1;
        return 0;
    }
    free(table->slots);
    table->slots = slots;
    table->slot_bits = bits;
    table->capacity = capacity;
    memset(slots, 0xff, sizeof *slots << bits);
    for (int64_t g = 0; g < table->count; g++) {
        uint64_t slot = hash_ids(ids + g * report->columns, report->columns) >> (64 - bits);
        while (slots[slot] >= 0)
            slot = (slot + 1) & (((uint64_t)1 << bits) - 1);
        slots[slot] = g;
    }
    return 1;
}

/* The group with these ids, a new one if need be; -1 if there is no memory. */
static int64_t find_group(const report *report, const int64_t *wanted, figures *figures)
{
    group_table *table = &figures->groups;
    const int columns = report->columns;
    const size_t size = sizeof *wanted * (size_t)columns;
    if (table->last >= 0 && !memcmp(table->ids + table->last * columns, wanted, size))
        return table->last;
    if (!grow_groups(report, table, figures))
        return -1;
    const uint64_t mask = ((uint64_t)1 << table->slot_bits) - 1;
    uint64_t slot = hash_ids(wanted, columns) >> (64 - table->slot_bits);
    while (table->slots[slot] >= 0) {
        table->last = table->slots[slot];
        if (!memcmp(table->ids + table->last * columns, wanted, size))
            return table->last;
        slot = (slot + 1) & mask;
    }
    int64_t group = table->slots[slot] = table->last = table->count++;
    memcpy(table->ids + group * columns, wanted, size);
    memset(table->counts + group * report->group_counts, 0, sizeof(int64_t) * (size_t)report->group_counts);
    table->sums[group] = (plane_sums){NULL, report->group_sums, report->group_sums, 0, 0};
    return group;
}

static int64_t group_of_row(const report *report, const char *base, int64_t row, figures *figures)
{
    int64_t ids[MOST_COLUMNS];
    for (int i = 0; i < report->columns; i++)
        ids[i] = read_id(report->groups + i, base, row);
    return find_group(report, ids, figures);
}

/* Reducers over elements */

static int is_kept(const block *block, int i)
{
    return !block->dropped || block->kept[i] != 0.0;
}

static void count_unusual(const double *loss, int count, int64_t *nan, int64_t *infinite)
{
    int64_t any = 0;
    for (int i = 0; i < count; i++)
        any |= !(fabs(loss[i]) <= DBL_MAX);
    for (int i = 0; any && i < count; i++) {
        *nan += isnan(loss[i]) != 0;
        *infinite += isinf(loss[i]) != 0;
    }
}

static void add_squares(wide_sum *sum, const double *values, int count)
{
    double squares[BLOCK];
    for (int i = 0; i < count; i++)
        squares[i] = values[i] * values[i];
    add_padded(sum, squares, count);
}

static void add_classes(const report *report, const block *block, figures *figures)
{
    const int count = block->count;
    plane_sums *sums = &figures->arrays;
    const int64_t base = report->single_sums;
    add_by_class(report, sums, report->at.class_sum - base, block->start, block->loss, count, figures);
    add_by_class(report, sums, report->at.class_positives - base, block->start, block->y, count, figures);
    if (report->weighted)
        add_by_class(report, sums, report->at.class_weight - base, block->start, block->weight, count, figures);
    count_by_class(report, figures->counts + report->at.class_count, block->start,
                   block->dropped ? block->kept : NULL, count);
}

static int64_t histogram_bin(double value)
{
    const uint64_t bits = double_to_bits(value);
    if ((bits << 1) == 0)
        return HISTOGRAM_BINS;
    if ((bits & 0x7ff0000000000000) == 0x7ff0000000000000)
        return HISTOGRAM_BINS + (isnan(value) ? 2 : 1);
    return (int64_t)(bits >> 48);
}

static void add_histogram(const report *report, const block *block, figures *figures)
{
    int64_t *counts = figures->counts + report->at.histogram_elements;
    for (int i = 0; i < block->count; i++) {
        if (!is_kept(block, i))
            continue;
        int64_t bin = histogram_bin(block->loss[i]);
        counts[bin]++;
        if (report->weighted)
            add_one(&figures->arrays, report->at.histogram_weight - report->single_sums + bin, block->weight[i],
                    figures);
    }
}

/* sigmoid(x), or the probability itself */
LOSSD_INLINE double probability_of(int probabilities, double x)
{
    if (probabilities)
        return x;
    double small = lossd_logit(0, 0, 0, x).small.hi;
    return (x >= 0.0 ? 1.0 : small) / (1.0 + small);
}

/* Add a number in [0, 1] to a sum in units of 2^-96, or where it is tiny to an array. */
static inline void add_probability(figures *figures, int64_t cell, int64_t place, double p)
{
    const uint64_t bits = double_to_bits(p), exponent = bits >> 52;
    if (exponent >= 1075 - 96)
        figures->probability[cell] += (unsigned __int128)((bits & 0xfffffffffffff) | (uint64_t)1 << 52)
                                      << (exponent - (1075 - 96));
    else
        add_one(&figures->arrays, place, p, figures);
}

/* Move the calibration's whole numbers to the array: those of 42 bits are float64 numbers. */
static void settle_calibration(const report *report, figures *figures)
{
    const uint64_t mask = ((uint64_t)1 << 42) - 1;
    const int64_t positives = report->at.bin_positives - report->single_sums;
    const int64_t sums = report->at.bin_probability - report->single_sums;
    for (int64_t i = 0; i < report->calibration_cells; i++) {
        add_one(&figures->arrays, positives + i, (double)figures->positives[i], figures);
        if (!figures->probability)
            continue;
        unsigned __int128 sum = figures->probability[i];
        add_one(&figures->arrays, sums + i, (double)(uint64_t)(sum >> 84) * 0x1p-12, figures);
        add_one(&figures->arrays, sums + i, (double)((uint64_t)(sum >> 42) & mask) * 0x1p-54, figures);
        add_one(&figures->arrays, sums + i, (double)((uint64_t)sum & mask) * 0x1p-96, figures);
    }
}

static int value_of_16_bits(const job *job, double x)
{
    if (x == 0.0)
        return 0;
    if (job->inputs.dtype == BFLOAT16) {
        float narrow = (float)x;
        uint32_t bits;
        memcpy(&bits, &narrow, sizeof bits);
        return (int)(bits >> 16);
    }
    uint64_t bits = double_to_bits(x);
    int sign = (int)(bits >> 63) << 15;
    double size = fabs(x) * 0x1p-1008; /* the other way round in from_float16 */
    return sign | (isinf(x) ? 0x7c00 : (int)(double_to_bits(size) >> 42));
}

/* The cross entropy of the inputs without weights, pos_weight and smoothing. */
static const double *plain_losses(const job *job, const block *block, double *values)
{
    const formula *how = &job->formula;
    if (how->loss == LOSSD_BCE && !job->weight.axes && !job->pos_weight.axes && how->smoothing == 0.0)
        return block->loss;
    formula plain = {LOSSD_BCE, how->probabilities, 0, 0, 0.0, 0.0, 0.0};
    lossd_elements(&plain, block->count, block->x, block->y, NULL, NULL, values);
    return values;
}

static void add_calibration(const job *job, const report *report, const block *block, figures *figures)
{
    double p[BLOCK], squares[BLOCK], plain[BLOCK], losses[BLOCK];
    const int count = block->count, bins = report->bins;
    const double *cross_entropy = plain_losses(job, block, plain);
    if (job->formula.probabilities)
        memcpy(p, block->x, sizeof *p * (size_t)count);
    else
        for (int i = 0; i < count; i++)
            p[i] = probability_of(0, block->x[i]);
    for (int i = 0; i < count; i++) {
        double t = p[i] - block->y[i];
        squares[i] = t * t;
        losses[i] = cross_entropy[i];
    }
    int64_t *counts = figures->counts + report->at.bin_count, inner = report->calibration_inner;
    int64_t classes = report->calibration_classes, within = block->start % inner;
    int64_t class = block->start / inner % classes;
    const int64_t positives = report->at.bin_positives - report->single_sums;
    const int64_t sums = report->at.bin_probability - report->single_sums;
    for (int i = 0; i < count; i++) {
        const double y = block->y[i];
        if (!is_kept(block, i)) {
            squares[i] = losses[i] = 0.0;
        } else if (isnan(p[i]) || isnan(y)) {
            squares[i] = losses[i] = 0.0;
            figures->counts[report->at.undefined]++;
        } else {
            int64_t cell;
            if (report->exact) {
                cell = value_of_16_bits(job, block->x[i]);
            } else {
                int bin = (int)(p[i] * bins);
                cell = class * bins + (bin < bins ? bin : bins - 1);
                add_probability(figures, cell, sums + cell, p[i]);
            }
            counts[cell]++;
            if (y == 1.0) {
                figures->positives[cell]++;
            } else if (y != 0.0) {
                figures->counts[report->at.soft]++;
                add_one(&figures->arrays, positives + cell, y, figures);
            }
        }
        if (++within == inner) {
            within = 0;
            if (++class == classes)
                class = 0;
        }
    }
    add_padded(single(figures, report->at.brier), squares, count);
    add_padded(single(figures, report->at.cross_entropy), losses, count);
}

/* Add to one of the sweep's sums, or to that of each class. */
static void add_bracket(const report *report, int bracket, int gamma, int64_t start, double *values, int count,
                        figures *figures)
{
    int64_t figure = bracket * (int64_t)(report->gammas ? report->gammas : 1) + gamma;
    if (report->classes)
        add_by_class(report, &figures->arrays, report->at.sweep - report->single_sums + figure * report->classes,
                     start, values, count, figures);
    else
        add_padded(single(figures, report->at.sweep + figure), values, count);
}

/* a b, 0 times infinity being 0 */
LOSSD_INLINE double zero_or_product(double a, double b)
{
    double product = a * b;
    return ((a == 0.0) & (b == b)) | ((b == 0.0) & (a == a)) ? 0.0 : product;
}

enum { PIECE = LOSSD_PIECE };

/* What the sweep's sums are made of, for a piece of a block. */
typedef struct {
    double positive[PIECE], negative[PIECE]; /* the costs of either class */
    double y[PIECE], z[PIECE], weight[PIECE];
    double miss[PIECE], low[PIECE], fine_miss[PIECE], fine_low[PIECE];
    double power[PIECE], lost[PIECE], value[PIECE];
} sweep_piece;

LOSSD_INLINE void sweep_inputs(int probabilities, int quality, int fine, int n, const formula *how,
                               const double *restrict x, const double *restrict y, sweep_piece *restrict to)
{
    for (int i = 0; i < n; i++) {
        lossd_input input = lossd_input_of(probabilities, fine, 1, 0, x[i]);
        lossd_target target = lossd_target_of(y[i], how->smoothing);
        if (how->smoothing == 0.0) {
            target.y = lossd_pair(y[i], 0.0);
            target.z = lossd_sum_of_ordered(1.0, -y[i]);
        }
        lossd_two miss = lossd_miss(probabilities, quality, fine, 1, input, target);
        if (fine) {
            to->fine_miss[i] = miss.hi;
            to->fine_low[i] = miss.lo;
            continue;
        }
        int certain = probabilities ? (x[i] == 0.0) | (x[i] == 1.0) : fabs(x[i]) > DBL_MAX;
        double likely = input.likely.hi + input.likely.lo;
        double unlikely = certain ? INFINITY : input.unlikely.hi + input.unlikely.lo;
        unlikely = likely == likely ? unlikely : likely; /* of a NaN it may be any number */
        to->positive[i] = input.positive ? likely : unlikely;
        to->negative[i] = input.positive ? unlikely : likely;
        to->y[i] = target.y.hi + target.y.lo;
        to->z[i] = target.z.hi + target.z.lo;
        to->miss[i] = miss.hi;
        to->low[i] = miss.lo;
    }
}

static int is_simple(double gamma)
{
    return gamma == 0.0 || gamma == 0.5 || gamma == 1.0 || gamma == 1.5 || gamma == 2.0 || gamma == 3.0;
}

static void sweep_piece_inputs(const formula *how, int fine, int n, const double *x, const double *y, sweep_piece *to)
{
#define SWEEP_INPUTS(probabilities, quality, fine) sweep_inputs(probabilities, quality, fine, n, how, x, y, to)
    const int quality = how->loss == LOSSD_FOCAL && how->variant == LOSSD_QUALITY;
    if (how->probabilities && quality)
        fine ? SWEEP_INPUTS(1, 1, 1) : SWEEP_INPUTS(1, 1, 0);
    else if (how->probabilities)
        fine ? SWEEP_INPUTS(1, 0, 1) : SWEEP_INPUTS(1, 0, 0);
    else if (quality)
        fine ? SWEEP_INPUTS(0, 1, 1) : SWEEP_INPUTS(0, 1, 0);
    else
        fine ? SWEEP_INPUTS(0, 0, 1) : SWEEP_INPUTS(0, 0, 0);
}

/* Add c y y A and its kin for one gamma, c being in `power`. */
static void add_products(const report *report, int gamma, int64_t start, int n, int hard, sweep_piece *at,
                         figures *figures)
{
    double *value = at->value;
    const double *c = at->power, *y = at->y, *z = at->z, *positive = at->positive, *negative = at->negative;
#define PRODUCT(bracket, first, second, cost)                                                        \
    do {                                                                                             \
        for (int i = 0; i < n; i++)                                                                  \
            value[i] = zero_or_product(zero_or_product(zero_or_product(c[i], first), second), cost); \
        add_bracket(report, bracket, gamma, start, value, n, figures);                               \
    } while (0)
    PRODUCT(0, y[i], y[i], positive[i]);
    if (!hard) {
        PRODUCT(1, y[i], z[i], negative[i]);
        PRODUCT(2, z[i], y[i], positive[i]);
    }
    PRODUCT(3, z[i], z[i], negative[i]);
}

static void add_bce_products(const report *report, int64_t start, int n, sweep_piece *at, figures *figures)
{
    for (int i = 0; i < n; i++)
        at->value[i] = zero_or_product(zero_or_product(at->weight[i], at->y[i]), at->positive[i]);
    add_bracket(report, 0, 0, start, at->value, n, figures);
    for (int i = 0; i < n; i++)
        at->value[i] = zero_or_product(zero_or_product(at->weight[i], at->z[i]), at->negative[i]);
    add_bracket(report, 1, 0, start, at->value, n, figures);
}

/* What an element weighs, 0 if it is dropped. */
static void weights_of(const report *report, const block *block, int from, int n, double *weight)
{
    for (int i = 0; i < n; i++)
        weight[i] = !is_kept(block, from + i) ? 0.0 : report->weighted ? block->weight[from + i] : 1.0;
}

static void add_sweep(const job *job, const report *report, const block *block, figures *figures)
{
    sweep_piece at;
    const formula *how = &job->formula;
    int fine = 0;
    for (int g = 0; g < report->gammas; g++)
        fine |= !is_simple(report->gamma[g]);
    for (int from = 0; from < block->count; from += PIECE) {
        const int n = block->count - from < PIECE ? block->count - from : PIECE;
        const double *x = block->x + from, *y = block->y + from;
        const int64_t start = block->start + from;
        const int hard = how->smoothing == 0.0 && !job->allow_nan && lossd_all_hard(n, x, y);
        sweep_piece_inputs(how, 0, n, x, y, &at);
        if (fine)
            sweep_piece_inputs(how, 1, n, x, y, &at);
        weights_of(report, block, from, n, at.weight);
        if (how->loss == LOSSD_BCE) {
            add_bce_products(report, start, n, &at, figures);
            continue;
        }
        for (int g = 0; g < report->gammas; g++) {
            const int is_fine = !is_simple(report->gamma[g]);
            memcpy(at.power, is_fine ? at.fine_miss : at.miss, sizeof at.power);
            memcpy(at.lost, is_fine ? at.fine_low : at.low, sizeof at.lost);
            lossd_powers(report->gamma[g], n, at.power, at.lost);
            if (report->weighted || block->dropped)
                for (int i = 0; i < n; i++)
                    at.power[i] = zero_or_product(at.weight[i], at.power[i]);
            add_products(report, g, start, n, hard, &at, figures);
        }
    }
}

/* The sweep of the variant whose modulator depends on pos_weight: the element without alpha, for each gamma. */
static void add_exp_sweep(const job *job, const report *report, const block *block, figures *figures)
{
    double values[BLOCK], weight[BLOCK];
    formula how = job->formula;
    how.balanced = 0;
    weights_of(report, block, 0, block->count, weight);
    for (int g = 0; g < report->gammas; g++) {
        how.gamma = report->gamma[g];
        lossd_elements(&how, block->count, block->x, block->y, job->pos_weight.axes ? block->pos_weight : NULL, NULL,
                       values);
        if (report->weighted || block->dropped)
            for (int i = 0; i < block->count; i++)
                values[i] = zero_or_product(weight[i], values[i]);
        add_bracket(report, 0, g, block->start, values, block->count, figures);
    }
}

static int pair_of(double difference)
{
    return difference < 0.0 ? BETTER : difference > 0.0 ? WORSE : difference == 0.0 ? EQUAL : UNDEFINED;
}

static void add_pairs(const report *report, const char *base, const block *block, const double *baseline,
                      const double *baseline_x, figures *figures)
{
    double difference[BLOCK], squares[BLOCK], copy[BLOCK];
    const int count = block->count;
    const int64_t arrays = report->single_sums;
    for (int i = 0; i < count; i++) {
        difference[i] = block->loss[i] - baseline[i];
        squares[i] = difference[i] * difference[i];
        copy[i] = baseline[i];
    }
    for (int i = 0; i < count; i++)
        if (is_kept(block, i))
            figures->counts[report->at.pair_elements + pair_of(difference[i])]++;
    add_padded(single(figures, report->at.baseline), copy, count);
    add_padded(single(figures, report->at.pair_squares), squares, count);
    if (report->classes) {
        add_by_class(report, &figures->arrays, report->at.class_baseline - arrays, block->start, baseline, count,
                     figures);
        add_by_class(report, &figures->arrays, report->at.class_pair_squares - arrays, block->start, squares, count,
                     figures);
        for (int i = 0; i < count; i++)
            if (is_kept(block, i)) {
                int64_t class = (block->start + i) / report->class_inner % report->classes;
                figures->counts[report->at.class_pairs + pair_of(difference[i]) * report->classes + class]++;
            }
    }
    if (report->top) {
        list_elements(report, base, block, baseline, baseline_x, difference, 1.0, figures->lists + WORSE_ELEMENTS);
        list_elements(report, base, block, baseline, baseline_x, difference, -1.0, figures->lists + BETTER_ELEMENTS);
    }
}

/* Rows */

/* Add a run of elements of one row to its group. */
static void add_to_group(const report *report, const block *block, const double *baseline, int from, int count,
                         const terms *loss, int64_t group, figures *figures)
{
    plane_sums *sums = figures->groups.sums + group;
    int64_t *counts = figures->groups.counts + group * report->group_counts, start = block->start + from;
    double squares[BLOCK];
    const group_indices *at = &report->group_at;
    add_terms_at(sums, at->sum, loss, figures);
    add_run_at(sums, at->positives, block->y + from, count, figures);
    if (report->weighted)
        add_run_at(sums, at->weight, block->weight + from, count, figures);
    if (at->element_squares >= 0) {
        for (int i = 0; i < count; i++)
            squares[i] = block->loss[from + i] * block->loss[from + i];
        add_run_at(sums, at->element_squares, squares, count, figures);
    }
    for (int i = 0; i < count; i++)
        counts[at->count] += is_kept(block, from + i);
    count_unusual(block->loss + from, count, counts + at->nan, counts + at->infinite);
    if (report->classes) {
        add_by_class(report, sums, at->class_sum, start, block->loss + from, count, figures);
        add_by_class(report, sums, at->class_positives, start, block->y + from, count, figures);
        if (report->weighted)
            add_by_class(report, sums, at->class_weight, start, block->weight + from, count, figures);
        count_by_class(report, counts + at->class_count, start, block->dropped ? block->kept + from : NULL, count);
    }
    if (!baseline)
        return;
    add_run_at(sums, at->baseline, baseline + from, count, figures);
    for (int i = 0; i < count; i++) {
        double difference = block->loss[from + i] - baseline[from + i];
        squares[i] = difference * difference;
        if (is_kept(block, from + i))
            counts[at->pair_elements + pair_of(difference)]++;
    }
    add_run_at(sums, at->pair_squares, squares, count, figures);
}

/* Add what follows from a whole row to its group. */
static void add_row_to_group(const report *report, const ended_rows *rows, int at_row, int64_t group, figures *figures)
{
    plane_sums *sums = figures->groups.sums + group;
    int64_t *counts = figures->groups.counts + group * report->group_counts;
    const group_indices *at = &report->group_at;
    const double sum = rows->sum[at_row], share = rows->share[at_row];
    counts[at->rows]++;
    if (!rows->kept[at_row]) {
        counts[at->rows_dropped]++;
        return;
    }
    add_one(sums, at->row_squares, sum * sum, figures);
    add_one(sums, at->row_products, sum * share, figures);
    add_one(sums, at->divisor_squares, share * share, figures);
    if (!report->paired)
        return;
    const double difference = sum - rows->baseline_sum[at_row];
    add_one(sums, at->pair_row_squares, difference * difference, figures);
    add_one(sums, at->pair_row_products, difference * share, figures);
    counts[at->pair_rows + pair_of(rows->loss[at_row] - rows->baseline_loss[at_row])]++;
}

/* Take out rows of which nothing is kept; how many those are. */
static int drop_empty_rows(ended_rows *rows)
{
    int count = 0, empty = 0;
    for (int i = 0; i < rows->count; i++)
        empty += !rows->kept[i];
    for (int i = 0; empty && i < rows->count; i++) {
        if (!rows->kept[i])
            continue;
        rows->row[count] = rows->row[i];
        rows->sum[count] = rows->sum[i];
        rows->share[count] = rows->share[i];
        rows->loss[count] = rows->loss[i];
        rows->baseline_sum[count] = rows->baseline_sum[i];
        rows->baseline_loss[count++] = rows->baseline_loss[i];
    }
    rows->count -= empty;
    return empty;
}

static void pair_rows(const report *report, const char *base, const ended_rows *rows, figures *figures)
{
    for (int i = 0; i < rows->count; i++) {
        const double loss = rows->loss[i], baseline = rows->baseline_loss[i], difference = loss - baseline;
        const double of_sums = rows->sum[i] - rows->baseline_sum[i];
        add_number(single(figures, report->at.pair_row_squares), of_sums * of_sums);
        add_number(single(figures, report->at.pair_row_products), of_sums * rows->share[i]);
        figures->counts[report->at.pair_rows + pair_of(difference)]++;
        if (report->top && difference > 0.0)
            list_row(report, base, difference, loss, baseline, rows->row[i], figures->lists + WORSE_ROWS);
        if (report->top && difference < 0.0)
            list_row(report, base, -difference, loss, baseline, rows->row[i], figures->lists + BETTER_ROWS);
    }
}

/* Add to one sum, and to another one if there is that. */
static void add_to_both(wide_sum *sum, wide_sum *other, double *values, int count)
{
    terms terms;
    terms_of(values, count, &terms);
    add_terms(sum, &terms);
    if (other)
        add_terms(other, &terms);
}

/* The reducers over the rows that end in a block. */
static void add_rows(const report *report, const char *base, ended_rows *rows, figures *figures)
{
    double values[BLOCK];
    const int single_elements = report->row_size == 1 && report->at.element_squares >= 0;
    figures->counts[report->at.rows_dropped] += drop_empty_rows(rows);
    const int count = rows->count;
    for (int i = 0; i < count; i++)
        values[i] = rows->sum[i] * rows->sum[i];
    add_to_both(single(figures, report->at.row_squares),
                single_elements ? single(figures, report->at.element_squares) : NULL, values, count);
    for (int i = 0; i < count; i++)
        values[i] = rows->sum[i] * rows->share[i];
    add_padded(single(figures, report->at.row_products), values, count);
    for (int i = 0; i < count; i++)
        values[i] = rows->share[i] * rows->share[i];
    add_plain(single(figures, report->at.divisor_squares), values, count);
    for (int i = 0; report->at.histogram_rows >= 0 && i < count; i++)
        figures->counts[report->at.histogram_rows + histogram_bin(rows->loss[i])]++;
    double least = report->top ? least_key(report, figures->lists + TOP_ROWS) : 0.0;
    if (report->top && any_key(rows->loss, count, least, 1))
        for (int i = 0; i < count; i++)
            list_row(report, base, rows->loss[i], rows->loss[i], 0.0, rows->row[i], figures->lists + TOP_ROWS);
    if (report->paired)
        pair_rows(report, base, rows, figures);
}

static int64_t kept_of(const block *block, int from, int count)
{
    if (!block->dropped)
        return count;
    double kept = 0.0;
    for (int i = 0; i < count; i++)
        kept += block->kept[from + i];
    return (int64_t)kept;
}

/* Note a row that has ended. */
static void end_row(const report *report, int64_t row, int64_t kept, double sum, double share, double baseline,
                    ended_rows *rows)
{
    const int at = rows->count++;
    const double divisor = report->row_mean && kept ? (double)kept : 1.0;
    rows->row[at] = row;
    rows->kept[at] = kept;
    rows->sum[at] = sum;
    rows->share[at] = report->share == DIVISOR_COUNT ? (double)kept : report->share == DIVISOR_NONE ? 1.0 : share;
    rows->loss[at] = sum / divisor;
    rows->baseline_sum[at] = baseline;
    rows->baseline_loss[at] = baseline / divisor;
}

/* The exact sums of whole rows, each rounded once; added to `total`, too, unless that is NULL. */
static void row_sums(const double *values, int rows, int size, double *sums, wide_sum *total)
{
    double totals[CUTS] = {0.0}, row[BLOCK + LANES];
    terms each;
    if (size < SHORT_ROW) {
        for (int i = 0; i < rows; i++)
            sums[i] = short_row_sum(values + i * size, size);
        if (total) {
            memcpy(row, values, sizeof *row * (size_t)(rows * size));
            add_padded(total, row, rows * size);
        }
        return;
    }
    memset(row + size, 0, sizeof *row * LANES);
    for (int i = 0; i < rows; i++, values += size) {
        int rest;
        const double *from = values;
        if (size % LANES)
            from = memcpy(row, values, sizeof *row * (size_t)size);
        each.count = CUTS;
        if (!cut_block(from, size, each.term, &rest) || rest) {
            terms_by_wide_sum(values, size, &each);
            if (total)
                add_terms(total, &each);
        } else {
            for (int level = 0; level < CUTS; level++)
                totals[level] += each.term[level];
        }
        sums[i] = round_cuts(&each);
    }
    for (int level = 0; total && level < CUTS; level++)
        add_number(total, totals[level]);
}

/* What each row of a block adds to the divisor. */
static void row_shares(const report *report, const block *block, int rows, int size, ended_rows *to)
{
    for (int i = 0; i < rows; i++)
        to->kept[i] = kept_of(block, i * size, size);
    if (report->share == DIVISOR_WEIGHT || report->share == DIVISOR_POSITIVES)
        row_sums(report->share == DIVISOR_WEIGHT ? block->weight : block->y, rows, size, to->share, NULL);
    else
        for (int i = 0; i < rows; i++)
            to->share[i] = report->share == DIVISOR_COUNT ? (double)to->kept[i] : 1.0;
}

/* Reduce a block of whole rows without groups. */
static void sum_whole_rows(const report *report, const char *base, const block *block, const double *baseline,
                           wide_sum *total, figures *figures)
{
    ended_rows rows;
    const int size = (int)report->row_size;
    rows.count = block->count / size;
    row_sums(block->loss, rows.count, size, rows.sum, total);
    if (baseline)
        row_sums(baseline, rows.count, size, rows.baseline_sum, NULL);
    row_shares(report, block, rows.count, size, &rows);
    for (int i = 0; i < rows.count; i++) {
        double divisor = report->row_mean && rows.kept[i] ? (double)rows.kept[i] : 1.0;
        rows.row[i] = block->start / size + i;
        rows.loss[i] = rows.sum[i] / divisor;
        rows.baseline_loss[i] = baseline ? rows.baseline_sum[i] / divisor : 0.0;
    }
    add_rows(report, base, &rows, figures);
}

/* Reduce a block that holds rows and pieces of rows, whose sums also belong to groups. */
static void sum_pieces(const report *report, const char *base, const block *block, const double *baseline,
                       wide_sum *total, figures *figures)
{
    ended_rows rows;
    open_row *open = &figures->open;
    const int64_t size = report->row_size;
    const double *shares = report->share == DIVISOR_WEIGHT      ? block->weight
                           : report->share == DIVISOR_POSITIVES ? block->y
                                                                : NULL;
    rows.count = 0;
    for (int from = 0, count; from < block->count; from += count) {
        const int64_t place = block->start + from, row = place / size, within = place % size;
        count = size - within < block->count - from ? (int)(size - within) : block->count - from;
        const int ends = within + count == size;
        terms loss, share = {{0.0}, 1}, other = {{0.0}, 1};
        terms_of(block->loss + from, count, &loss);
        add_terms(total, &loss);
        if (shares)
            terms_of(shares + from, count, &share);
        if (baseline)
            terms_of(baseline + from, count, &other);
        if (within == 0)
            memset(open, 0, sizeof *open);
        open->kept += kept_of(block, from, count);
        if (within == 0 && ends) {
            end_row(report, row, open->kept, round_terms(&loss), round_terms(&share), round_terms(&other), &rows);
        } else {
            add_terms(&open->loss, &loss);
            add_terms(&open->share, &share);
            add_terms(&open->baseline, &other);
            if (ends)
                end_row(report, row, open->kept, rounded_sum(&open->loss), rounded_sum(&open->share),
                        rounded_sum(&open->baseline), &rows);
        }
        if (!report->group_sums)
            continue;
        int64_t group = group_of_row(report, base, row, figures);
        if (group < 0)
            return;
        add_to_group(report, block, baseline, from, count, &loss, group, figures);
        if (ends)
            add_row_to_group(report, &rows, rows.count - 1, group, figures);
    }
    add_rows(report, base, &rows, figures);
}

/* All reducers, over a block that has been scored. */
static void add_figures(const job *job, const report *report, const char *base, block *block, const double *baseline,
                        const double *baseline_x, wide_sum *total, figures *figures)
{
    const int count = block->count;
    if (report->row_size <= BLOCK && !report->group_sums)
        sum_whole_rows(report, base, block, baseline, total, figures);
    else
        sum_pieces(report, base, block, baseline, total, figures);
    count_unusual(block->loss, count, figures->counts + report->at.nan, figures->counts + report->at.infinite);
    if (report->at.element_squares >= 0 && report->row_size > 1)
        add_squares(single(figures, report->at.element_squares), block->loss, count);
    if (report->classes)
        add_classes(report, block, figures);
    if (report->at.histogram_elements >= 0)
        add_histogram(report, block, figures);
    if (report->top)
        list_elements(report, base, block, NULL, NULL, block->loss, 1.0, figures->lists + TOP_ELEMENTS);
    if (report->at.bin_count >= 0)
        add_calibration(job, report, block, figures);
    if (report->at.sweep >= 0) {
        if (job->formula.loss == LOSSD_FOCAL && job->formula.variant == LOSSD_EXP)
            add_exp_sweep(job, report, block, figures);
        else
            add_sweep(job, report, block, figures);
    }
    if (baseline)
        add_pairs(report, base, block, baseline, baseline_x, figures);
}

/* Putting together what threads have come to */

static void join_lists(const report *report, list *all, const list *other)
{
    for (int i = 0; i < other->count; i++)
        offer(report, all, other->entries + i);
}

static void join_planes_of(plane_sums *all, const plane_sums *other, figures *figures)
{
    for (int p = 0; p < other->count; p++)
        for (int64_t at = 0; at < other->length; at += BLOCK) {
            int run = other->length - at < BLOCK ? (int)(other->length - at) : BLOCK;
            add_side_by_side(all, at, other->plane + p * other->stride + at, run, figures);
        }
}

static void join_figures(const report *report, figures *all, figures *other)
{
    all->failed |= other->failed;
    if (all->failed)
        return;
    for (int64_t i = 0; i < report->single_sums; i++)
        add_sum(all->single + i, other->single + i);
    for (int64_t i = 0; i < report->counts; i++)
        all->counts[i] += other->counts[i];
    for (int64_t i = 0; all->positives && i < report->calibration_cells; i++) {
        all->positives[i] += other->positives[i];
        if (all->probability)
            all->probability[i] += other->probability[i];
    }
    join_planes_of(&all->arrays, &other->arrays, all);
    for (int i = 0; i < LISTS; i++)
        join_lists(report, all->lists + i, other->lists + i);
    for (int64_t g = 0; g < other->groups.count; g++) {
        int64_t group = find_group(report, other->groups.ids + g * report->columns, all);
        if (group < 0)
            return;
        join_planes_of(all->groups.sums + group, other->groups.sums + g, all);
        for (int64_t i = 0; i < report->group_counts; i++)
            all->groups.counts[group * report->group_counts + i] += other->groups.counts[g * report->group_counts + i];
    }
}

/* Writing: numbers of 8 bytes, (index, number) pairs as two arrays one behind the other. */

typedef struct {
    int64_t *index; /* NULL: only count them */
    double *number;
    int64_t count;
} sum_writer;

static void write_number(sum_writer *to, int64_t index, double number)
{
    if (number == 0.0)
        return;
    if (to->index) {
        to->index[to->count] = index;
        to->number[to->count] = number;
    }
    to->count++;
}

static void write_planes(sum_writer *to, int64_t first, const plane_sums *sums)
{
    for (int64_t i = 0; i < sums->length; i++) {
        int used = 0;
        for (int p = 0; p < sums->count; p++)
            used += sums->plane[p * sums->stride + i] != 0.0;
        if (used <= 2) {
            for (int p = 0; p < sums->count; p++)
                write_number(to, first + i, sums->plane[p * sums->stride + i]);
            continue;
        }
        wide_sum sum;
        double term[MOST_TERMS];
        clear_sum(&sum);
        for (int p = 0; p < sums->count; p++)
            add_number(&sum, sums->plane[p * sums->stride + i]);
        int count = sum_terms(&sum, term);
        for (int p = 0; p < count; p++)
            write_number(to, first + i, term[p]);
    }
}

static void write_sums(sum_writer *to, const report *report, const figures *figures)
{
    for (int64_t i = 0; i < report->single_sums; i++) {
        double term[MOST_TERMS];
        int count = sum_terms(figures->single + i, term);
        for (int p = 0; p < count; p++)
            write_number(to, i, term[p]);
    }
    write_planes(to, report->single_sums, &figures->arrays);
    for (int64_t g = 0; g < figures->groups.count; g++)
        write_planes(to, report->sums + g * report->group_sums, figures->groups.sums + g);
}

/* Write the counts that are not 0, first all indices, or count them where `index` is NULL. */
static int64_t write_counts(const report *report, const figures *figures, int64_t *index, int64_t *number)
{
    const int64_t groups = figures->groups.count * report->group_counts;
    int64_t count = 0;
    for (int64_t i = 0; i < report->counts + groups; i++) {
        int64_t value = i < report->counts ? figures->counts[i] : figures->groups.counts[i - report->counts];
        if (!value)
            continue;
        if (index) {
            index[count] = i;
            number[count] = value;
        }
        count++;
    }
    return count;
}

/* Write a partial report; how many bytes it takes, or -1 if there is no room. */
static int64_t write_figures(const report *report, figures *figures, char *memory, int64_t bytes)
{
    if (report->at.bin_count >= 0)
        settle_calibration(report, figures);
    if (figures->failed)
        return -1;
    sum_writer counted = {NULL, NULL, 0}, sums = {NULL, NULL, 0};
    write_sums(&counted, report, figures);
    int64_t counts = write_counts(report, figures, NULL, NULL), listed = 0, *header = (int64_t *)memory;
    int64_t ids = figures->groups.count * report->columns;
    for (int i = 0; i < LISTS; i++)
        listed += figures->lists[i].count;
    int64_t needed = 8 * (4 + LISTS + 2 * counted.count + 2 * counts + ids) + (int64_t)sizeof(entry) * listed;
    if (needed > bytes)
        return -1;
    *header++ = counted.count;
    *header++ = counts;
    *header++ = figures->groups.count;
    *header++ = report->columns;
    for (int i = 0; i < LISTS; i++)
        *header++ = figures->lists[i].count;
    sums.index = header;
    sums.number = (double *)(header + counted.count);
    write_sums(&sums, report, figures);
    header += 2 * counted.count;
    write_counts(report, figures, header, header + counts);
    header += 2 * counts;
    if (ids)
        memcpy(header, figures->groups.ids, sizeof(int64_t) * (size_t)ids);
    entry *entries = (entry *)(header + ids);
    for (int i = 0; i < LISTS; i++) {
        if (figures->lists[i].count)
            memcpy(entries, figures->lists[i].entries, sizeof *entries * (size_t)figures->lists[i].count);
        entries += figures->lists[i].count;
    }
    return needed;
}
#endif

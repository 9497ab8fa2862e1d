/* The rows and elements with the greatest losses, or differences. */
#ifndef LOSSD_REPORT_LISTS_H
#define LOSSD_REPORT_LISTS_H

#include "report_figures.h"

static int64_t read_id(const column *column, const char *base, int64_t row)
{
    const char *from = base + column->offset + row * column->stride;
    uint64_t bits = 0;
    int size = column->size;
    char bytes[8];
    if (size == 8 && !column->swapped) {
        memcpy(&bits, from, 8);
        return (int64_t)bits;
    }
    for (int i = 0; i < size; i++)
        bytes[i] = from[column->swapped ? size - 1 - i : i];
    memcpy(&bits, bytes, (size_t)size);
    if (column->is_signed && size < 8) {
        int shift = 64 - 8 * size;
        return (int64_t)(bits << shift) >> shift;
    }
    return (int64_t)bits;
}

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
            const double target = report->by_target ? block->class_of[at] : block->y[at];
            entry new = {signed_keys[i], block->loss[at] + 0.0, 0.0, block->x[at] + 0.0, 0.0, target + 0.0,
                         place / report->row_size, place % report->row_size, 0}; /* + 0.0: no -0 */
            if (report->by_target)
                new.baseline_input = block->predicted[at];
            if (baseline) {
                new.baseline = baseline[at] + 0.0;
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

#endif

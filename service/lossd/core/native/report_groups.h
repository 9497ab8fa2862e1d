/* The groups that rows belong to, found by their ids. */
#ifndef LOSSD_REPORT_GROUPS_H
#define LOSSD_REPORT_GROUPS_H

#include "report_lists.h"

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

static int same_ids(const int64_t *ids, const int64_t *others, int columns)
{
    for (int i = 0; i < columns; i++)
        if (ids[i] != others[i])
            return 0;
    return 1;
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
    if (table->last >= 0 && same_ids(table->ids + table->last * columns, wanted, columns))
        return table->last;
    if (!grow_groups(report, table, figures))
        return -1;
    const uint64_t mask = ((uint64_t)1 << table->slot_bits) - 1;
    uint64_t slot = hash_ids(wanted, columns) >> (64 - table->slot_bits);
    while (table->slots[slot] >= 0) {
        table->last = table->slots[slot];
        if (same_ids(table->ids + table->last * columns, wanted, columns))
            return table->last;
        slot = (slot + 1) & mask;
    }
    int64_t group = table->slots[slot] = table->last = table->count++;
    memcpy(table->ids + group * columns, wanted, sizeof *wanted * (size_t)columns);
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

#endif

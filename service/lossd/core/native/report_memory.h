/* A partial report put together from those of threads, and written to memory. */
#ifndef LOSSD_REPORT_MEMORY_H
#define LOSSD_REPORT_MEMORY_H

#include "report_calibration.h"
#include "report_groups.h"
#include "report_rows.h"

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

/* Finish a thread's figures: `total` is its sum of the losses. */
static void settle_figures(const job *job, const report *report, wide_sum *total, figures *figures)
{
    if (figures->failed)
        return;
    settle_lines(figures);
    if (report->at.bin_count >= 0 && is_cross_entropy(job))
        add_sum(single(figures, report->at.cross_entropy), total);
    if (counts_rows(report)) {
        add_sum(single(figures, report->at.row_products), total);
        add_number(single(figures, report->at.divisor_squares), (double)figures->kept_rows);
    }
}

static void join_figures(const report *report, figures *all, figures *other)
{
    all->failed |= other->failed;
    if (all->failed)
        return;
    for (int64_t i = 0; i < report->single_sums; i++)
        add_sum(all->single + i, other->single + i);
    for (int64_t i = 0; i < report->counts; i++) {
        if (!other->used[i / USED])
            i += USED - 1; /* a group of them, at whose beginning this is */
        else
            add_count(all, i, other->counts[i]);
    }
    for (int64_t i = 0; all->cells && i < report->calibration_cells; i++) {
        all->cells[i].counts += other->cells[i].counts;
        all->cells[i].high += other->cells[i].high;
        all->cells[i].low += other->cells[i].low;
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

/* Write a whole number of some unit, as one number or two that a float64 holds. */
static void write_whole(sum_writer *to, int64_t index, int64_t whole, double unit)
{
    const int64_t low = whole & 0x7fffffff;
    if (llabs(whole) < (int64_t)1 << 53) {
        write_number(to, index, (double)whole * unit);
        return;
    }
    write_number(to, index, (double)(whole - low) * unit);
    write_number(to, index, (double)low * unit);
}

static void write_cells(sum_writer *to, const report *report, const figures *figures)
{
    for (int64_t i = 0; figures->cells && i < report->calibration_cells; i++) {
        const cell *cell = figures->cells + i;
        if (!cell->counts)
            continue;
        write_whole(to, report->at.bin_positives + i, cell->counts & 0xffffffff, 1.0);
        if (report->exact)
            continue;
        write_whole(to, report->at.bin_probability + i, cell->high, 0x1p-42);
        write_whole(to, report->at.bin_probability + i, cell->low, 0x1p-84);
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
    write_cells(to, report, figures);
    for (int64_t g = 0; g < figures->groups.count; g++)
        write_planes(to, report->sums + g * report->group_sums, figures->groups.sums + g);
}

/* Write the counts that are not 0, first all indices, or count them where `index` is NULL. */
static int64_t write_counts(const report *report, const figures *figures, int64_t *index, int64_t *number)
{
    const int64_t groups = figures->groups.count * report->group_counts, end = report->counts + groups;
    int64_t count = 0;
    for (int64_t i = 0; i < end; i++) {
        if (i < report->counts && i % USED == 0 && !figures->used[i / USED]) {
            i += USED - 1;
            continue;
        }
        int64_t value = i < report->counts ? figures->counts[i] : figures->groups.counts[i - report->counts];
        if (!value)
            continue;
        if (index) {
            index[count] = i;
            number[count] = value;
        }
        count++;
    }
    for (int64_t i = 0; figures->cells && i < report->calibration_cells; i++)
        if (figures->cells[i].counts) {
            if (index) {
                index[count] = report->at.bin_count + i;
                number[count] = figures->cells[i].counts >> 32;
            }
            count++;
        }
    return count;
}

/* Write a partial report; how many bytes it takes, or -1 if there is no room. */
static int64_t write_figures(const report *report, figures *figures, char *memory, int64_t bytes)
{
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

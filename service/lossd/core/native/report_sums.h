/* Exact sums of a few numbers: of a row, or of a run of elements. */
#ifndef LOSSD_REPORT_SUMS_H
#define LOSSD_REPORT_SUMS_H

#include "report_figures.h"

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

/* The terms of at most BLOCK numbers. */
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
    if (count > 0 && rest != 0.0 && (rest > 0.0) == (part[count - 1] > 0.0)) { /* maybe a half, and more behind it */
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

/* Add a run of elements to one sum of an array. */
static void add_run_at(plane_sums *sums, int64_t place, const double *values, int count, figures *figures)
{
    terms terms;
    if (count == 1) {
        add_one(sums, place, values[0], figures);
        return;
    }
    terms_of(values, count, &terms);
    for (int i = 0; i < terms.count; i++)
        add_one(sums, place, terms.term[i], figures);
}

/* Add numbers to one sum. `values` has room up to a multiple of LANES. */
static void add_padded(wide_sum *sum, double *values, int count)
{
    for (int i = count; i % LANES; i++)
        values[i] = 0.0;
    add_block(sum, values, count);
}

/* Add products of two numbers each, rounded. */
static void add_dot(wide_sum *sum, const double *a, const double *b, int count)
{
    double products[BLOCK];
    if (count <= 0)
        return;
    for (int i = 0; i < count; i++)
        products[i] = a[i] * b[i];
    add_padded(sum, products, count);
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

/* Add to one sum, and to another one if there is that. */
static void add_to_both(wide_sum *sum, wide_sum *other, double *values, int count)
{
    terms terms;
    terms_of(values, count, &terms);
    add_terms(sum, &terms);
    if (other)
        add_terms(other, &terms);
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

#endif

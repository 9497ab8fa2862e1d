/* Exact sums of rows that lie one behind the other, each rounded once, to nearest even.
 *
 * The steps of exact_sum.h, without its integers: two cuts in registers are mostly enough, four nearly always.
 * What is still left, or too large, or not finite, is added by wide_sum. Behind the rows must be room for
 * LANES numbers more, which are read, and do not count.
 */
#ifndef LOSSD_ROW_SUMS_H
#define LOSSD_ROW_SUMS_H

#include "exact_sum.h"

#define ROW_CUTS 4
#define SHORT_ROW 16 /* rows of fewer numbers are added side by side, one in each lane */
#define ROW_LARGEST 0x1p17
#define ROW_INLINE static inline __attribute__((always_inline))

/* Rounding to multiples of 2^-26, 2^-70, and so on: BLOCK numbers below 2^17, 2^-26, and so on add up exactly. */
static const double ROW_CUT[ROW_CUTS] = {1.5 * 0x1p26, 1.5 * 0x1p-18, 1.5 * 0x1p-62, 1.5 * 0x1p-106};
/* The same for numbers up to 1, to multiples of 2^-42, 2^-86, and so on. */
static const double UNIT_CUT[ROW_CUTS] = {1.5 * 0x1p10, 1.5 * 0x1p-34, 1.5 * 0x1p-78, 1.5 * 0x1p-122};

/* A sum, rounded, and what rounding took, rounded. */
typedef struct {
    double sum, lost;
} row_sum;

/* The sum of some numbers, with `plus` beside them. */
static row_sum sum_row_widely(const double *values, int size, double plus)
{
    wide_sum sum;
    double terms[MOST_TERMS];
    clear_sum(&sum);
    for (int i = 0; i < size; i++)
        add_number(&sum, values[i]);
    add_number(&sum, plus);
    int count = sum_terms(&sum, terms);
    row_sum found = {terms[0], count > 1 ? terms[1] : 0.0};
    return found;
}

/* The greater numbers, the second where one is NaN. */
ROW_INLINE lanes greater_lanes(lanes a, lanes b)
{
#if defined(__AVX512F__)
    return (lanes)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX__)
    return (lanes)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif defined(__SSE2__)
    return (lanes)_mm_max_pd((__m128d)a, (__m128d)b);
#else
    lane_bits more = a > b;
    return (lanes)(((lane_bits)a & more) | ((lane_bits)b & ~more));
#endif
}

ROW_INLINE double greatest_lane(lanes values)
{
    double greatest = values[0];
    for (int j = 1; j < LANES; j++)
        greatest = values[j] > greatest ? values[j] : greatest;
    return greatest;
}

ROW_INLINE row_sum add_two(double a, double b)
{
    double s = a + b, v = s - a;
    row_sum found = {s, (a - (s - v)) + (b - v)};
    return found;
}

/* The numbers from i on of a row; 0 where the row has no more, though LANES can be read. */
ROW_INLINE lanes load_of_row(const double *values, int i, int size)
{
    lanes found = load_lanes(values + i);
    if (i + LANES <= size)
        return found;
    lane_bits place;
    for (int j = 0; j < LANES; j++)
        place[j] = j;
    return (lanes)((lane_bits)found & (place < size - i));
}

/* Add four exact sums, each much smaller than the one before; 0 where that may not be rounded right. */
static int add_four(const double totals[ROW_CUTS], double *sum)
{
    row_sum third = add_two(totals[2], totals[3]), second = add_two(totals[1], third.sum);
    row_sum first = add_two(totals[0], second.sum);
    double rest = first.lost + (second.lost + third.lost);
    double doubt = 0x1p-48 * (fabs(first.lost) + (fabs(second.lost) + fabs(third.lost)));
    *sum = first.sum + (rest - doubt);
    return *sum == first.sum + (rest + doubt);
}

/* The sum of a row, from all cuts. */
static row_sum sum_row_by_cuts(const double *values, int size, const double cut[ROW_CUTS], double plus)
{
    lanes sums[ROW_CUTS] = {{0}};
    lane_bits left = {0};
    for (int i = 0; i < size; i += LANES) {
        lanes value = load_of_row(values, i, size);
        for (int level = 0; level < ROW_CUTS; level++) {
            lanes part = (value + cut[level]) - cut[level];
            sums[level] += part;
            value -= part;
        }
        left |= (lane_bits)value;
    }
    double totals[ROW_CUTS];
    for (int level = 0; level < ROW_CUTS; level++)
        totals[level] = add_lanes(sums[level]);
    totals[0] += plus;
    row_sum found = {0.0, 0.0};
    if (any_lane(left) || !add_four(totals, &found.sum))
        return sum_row_widely(values, size, plus);
    return found;
}

/* What is known of the numbers of rows: nothing; or that they are in [0, 1]; and at least ROW_CLOSE besides, so
 * that what the first cut leaves adds up exactly.
 */
enum { ROW_ANY, ROW_UNIT, ROW_NEAR_ONE };
#define ROW_CLOSE 0x1p-33

/* The sum of one row. `plus`, a multiple of the first cut's quantum, is added; `lost`: whether that is wanted. */
ROW_INLINE row_sum sum_row(int kind, const double *values, int size, double plus, int lost)
{
    const double *cut = kind == ROW_ANY ? ROW_CUT : UNIT_CUT;
    lanes first = {0}, second = {0};
    lane_bits left = {0}, large = {0};
    for (int i = 0; i < size; i += LANES) {
        lanes value = load_of_row(values, i, size), part = (value + cut[0]) - cut[0];
        first += part;
        if (kind == ROW_ANY)
            large |= ~((value < ROW_LARGEST) & (value > -ROW_LARGEST)); /* NaN, too */
        value -= part;
        part = kind == ROW_NEAR_ONE ? value : (value + cut[1]) - cut[1];
        second += part;
        left |= (lane_bits)(value - part);
    }
    if (kind == ROW_ANY && any_lane(large))
        return sum_row_widely(values, size, plus);
    if (kind == ROW_NEAR_ONE || !any_lane(left))
        return add_two(add_lanes(first) + plus, add_lanes(second));
    return lost ? sum_row_widely(values, size, plus) : sum_row_by_cuts(values, size, cut, plus);
}

/* The sums of short rows, from `row` on: one in each lane. */
ROW_INLINE void sum_rows_beside(int kind, const double *values, int row, int rows, int size, double plus, double *to,
                                double *lost)
{
    const double *cut = kind == ROW_ANY ? ROW_CUT : UNIT_CUT, *at[LANES];
    lanes first = {0}, second = {0};
    lane_bits left = {0};
    for (int j = 0; j < LANES; j++)
        at[j] = values + (row + j < rows ? row + j : rows - 1) * size;
    for (int i = 0; i < size; i++) {
        lanes value = {0}, part;
        for (int j = 0; j < LANES; j++)
            value[j] = at[j][i];
        if (kind == ROW_ANY)
            left |= ~((value < ROW_LARGEST) & (value > -ROW_LARGEST));
        part = (value + cut[0]) - cut[0];
        first += part;
        value -= part;
        part = kind == ROW_NEAR_ONE ? value : (value + cut[1]) - cut[1];
        second += part;
        left |= (lane_bits)(value - part);
    }
    const int count = rows - row < LANES ? rows - row : LANES;
    for (int j = 0; j < count; j++) {
        row_sum sum = add_two(first[j] + plus, second[j]);
        if (kind != ROW_NEAR_ONE && left[j])
            sum = sum_row(kind, at[j], size, plus, lost != NULL);
        to[row + j] = sum.sum;
        if (lost)
            lost[row + j] = sum.lost;
    }
}

ROW_INLINE void sum_rows(int kind, const double *values, int rows, int size, double plus, double *to, double *lost)
{
    if (size < SHORT_ROW) {
        for (int row = 0; row < rows; row += LANES)
            sum_rows_beside(kind, values, row, rows, size, plus, to, lost);
        return;
    }
    for (int row = 0; row < rows; row++) {
        row_sum sum = sum_row(kind, values + row * size, size, plus, lost != NULL);
        to[row] = sum.sum;
        if (lost)
            lost[row] = sum.lost;
    }
}

/* The sums of rows of any numbers, BLOCK in all at most; infinity and NaN as sum_terms has them. */
static void exact_row_sums(const double *values, int rows, int size, double *to)
{
    sum_rows(ROW_ANY, values, rows, size, 0.0, to, NULL);
}

/* The sums of rows of numbers in [0, 1], less 1, and what rounding took; NaN makes NaN. `lost` may be NULL.
 *
 * close: all are known to be ROW_CLOSE or more.
 */
static void exact_row_sums_less_one(const double *values, int rows, int size, int close, double *to, double *lost)
{
    if (lost)
        sum_rows(ROW_UNIT, values, rows, size, -1.0, to, lost);
    else if (close)
        sum_rows(ROW_NEAR_ONE, values, rows, size, -1.0, to, NULL);
    else
        sum_rows(ROW_UNIT, values, rows, size, -1.0, to, NULL);
}

#endif

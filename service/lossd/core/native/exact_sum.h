/* Sums of float64 numbers without rounding, in any order.
 *
 * `wide_sum` is one sum: an integer as wide as float64's range, in digits of 32 bits kept in 64, so that many
 * numbers are added before a carry must move (Kulisch, "Very fast and exact accumulation of products", 2011;
 * Neal, "Fast exact summation using small and large superaccumulators", https://arxiv.org/abs/1505.05571).
 * A block is first cut at fixed powers of two: `(v + M) - M` is v rounded to a multiple of M's last place, and
 * so few multiples of one quantum add up exactly in a double.
 *
 * `add_planes` is many sums side by side: each is kept as several float64 numbers, one a plane, that add up to
 * it exactly (Shewchuk, "Adaptive precision floating-point arithmetic and fast robust geometric predicates",
 * 1997).
 */
#ifndef LOSSD_EXACT_SUM_H
#define LOSSD_EXACT_SUM_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "bits.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

#define BLOCK 1024 /* elements that are computed together: their float64 arrays stay in the first cache */
#ifdef __AVX512F__ /* sums side by side: the numbers of one vector; BLOCK is a multiple */
#define LANES 8
#elif defined(__AVX__)
#define LANES 4
#else
#define LANES 2
#endif

#define DIGITS 68       /* of 32 bits: 2^-1088 to 2^1088 */
#define LOWEST 1088     /* the first digit's unit is 2^-LOWEST */
#define MOST_ADDS (1 << 30) /* additions before digits must be carried */
#define MOST_TERMS 41   /* of 53 bits each, which is more than float64's range holds */
#define MOST_PLANES 64  /* numbers that hold any sum exactly, however they came about */

typedef struct {
    int64_t digit[DIGITS];
    int64_t adds;
    double beyond;   /* the sum of infinities and NaN; 0 if there were none */
    int32_t unlike;  /* blocks for which add_close() is not tried */
    int32_t padding;
} wide_sum;

static inline void clear_sum(wide_sum *sum)
{
    memset(sum, 0, sizeof *sum);
}

/* Carry, so that all digits but the last are in [0, 2^32). */
static inline void carry_digits(wide_sum *sum)
{
    int64_t carry = 0;
    for (int i = 0; i < DIGITS - 1; i++) {
        int64_t digit = sum->digit[i] + carry;
        carry = digit >> 32; /* rounds down, also where it is negative */
        sum->digit[i] = digit & 0xffffffff;
    }
    sum->digit[DIGITS - 1] += carry;
    sum->adds = 1;
}

static inline void add_number(wide_sum *sum, double value)
{
    uint64_t bits = double_to_bits(value), mantissa = bits & 0xfffffffffffff;
    int exponent = (int)(bits >> 52) & 0x7ff;
    if (exponent == 0x7ff) {
        sum->beyond += value;
        return;
    }
    if (exponent)
        mantissa |= (uint64_t)1 << 52;
    else
        exponent = 1;
    int place = exponent - 1075 + LOWEST, shift = place & 31;
    int64_t *digit = sum->digit + (place >> 5);
    uint64_t rest = mantissa >> (32 - shift);
    int64_t low = (int64_t)((mantissa << shift) & 0xffffffff);
    int64_t middle = (int64_t)(rest & 0xffffffff), high = (int64_t)(rest >> 32);
    if (bits >> 63) {
        digit[0] -= low;
        digit[1] -= middle;
        digit[2] -= high;
    } else {
        digit[0] += low;
        digit[1] += middle;
        digit[2] += high;
    }
    if (++sum->adds >= MOST_ADDS)
        carry_digits(sum);
}

static inline void add_sum(wide_sum *sum, wide_sum *other)
{
    carry_digits(other);
    for (int i = 0; i < DIGITS; i++)
        sum->digit[i] += other->digit[i];
    if (++sum->adds >= MOST_ADDS)
        carry_digits(sum);
    sum->beyond += other->beyond;
}

/* The sum, rounded to nearest even, where nothing infinite was added. */
static inline double round_sum(wide_sum *sum)
{
    wide_sum magnitude = *sum;
    carry_digits(&magnitude);
    int negative = magnitude.digit[DIGITS - 1] < 0;
    if (negative) {
        for (int i = 0; i < DIGITS; i++)
            magnitude.digit[i] = -magnitude.digit[i];
        carry_digits(&magnitude);
    }
    int top = DIGITS - 1;
    while (top >= 0 && !magnitude.digit[top])
        top--;
    if (top < 0)
        return 0.0;
    /* The 96 bits from the top digit on, of which the first 53 stay. */
    uint64_t first = (uint64_t)magnitude.digit[top];
    uint64_t second = top > 0 ? (uint64_t)magnitude.digit[top - 1] : 0;
    uint64_t third = top > 1 ? (uint64_t)magnitude.digit[top - 2] : 0;
    int width = 64 - __builtin_clzll(first); /* bits of the top digit, 1 to 32 */
    int place = 32 * top + width - 1 - LOWEST; /* the leading bit is 2^place */
    int last = place - 52 < -1074 ? -1074 : place - 52;
    int dropped = last + LOWEST - 32 * (top - 2); /* bits of the 96 that do not stay */
    /* At least 11 bits are dropped, except of the lowest numbers, below which there is nothing. */
    unsigned __int128 all = ((unsigned __int128)first << 64) | (second << 32) | third;
    uint64_t kept;
    if (dropped <= 0) {
        kept = (uint64_t)(all << -dropped);
    } else {
        unsigned __int128 rest = all & (((unsigned __int128)1 << dropped) - 1);
        unsigned __int128 half = (unsigned __int128)1 << (dropped - 1);
        kept = (uint64_t)(all >> dropped);
        int sticky = 0;
        for (int i = 0; i < top - 2 && !sticky; i++)
            sticky = magnitude.digit[i] != 0;
        if (rest > half || (rest == half && (sticky || (kept & 1))))
            kept++;
    }
    double value = ldexp((double)kept, last); /* exact: kept has at most 53 bits, or is 2^53 */
    return negative ? -value : value;
}

/* The canonical terms of the sum: t1 is the sum rounded, t2 what is left rounded, and so on; how many. */
static inline int sum_terms(const wide_sum *sum, double terms[MOST_TERMS])
{
    wide_sum rest = *sum;
    if (rest.beyond != 0.0) { /* NaN, too */
        terms[0] = isnan(rest.beyond) ? NAN : rest.beyond;
        return 1;
    }
    int count = 0;
    do {
        double term = round_sum(&rest);
        terms[count++] = term;
        if (isinf(term))
            return 1;
        add_number(&rest, -term);
        carry_digits(&rest);
        int left = 0;
        for (int i = 0; i < DIGITS && !left; i++)
            left = rest.digit[i] != 0;
        if (!left)
            break;
    } while (count < MOST_TERMS);
    return count;
}

/* The sum, rounded to nearest even. */
static inline double rounded_sum(const wide_sum *sum)
{
    double terms[MOST_TERMS];
    sum_terms(sum, terms);
    return terms[0];
}

/* Rounding to multiples of 2^-24, 2^-64 and so on: BLOCK of them below 2^17, 2^-24 and so on add up exactly. */
#define CUTS 5
static const double CUT[CUTS] = {1.5 * 0x1p28, 1.5 * 0x1p-12, 1.5 * 0x1p-52, 1.5 * 0x1p-92, 1.5 * 0x1p-132};
#define LARGEST 0x1p17

static inline double beyond_cuts(double value)
{
    for (int level = 0; level < CUTS; level++)
        value -= (value + CUT[level]) - CUT[level];
    return value;
}

/* LANES numbers, computed with side by side. */
typedef double lanes __attribute__((vector_size(8 * LANES)));
typedef int64_t lane_bits __attribute__((vector_size(8 * LANES)));
typedef uint64_t lane_words __attribute__((vector_size(8 * LANES))); /* their sums may wrap around */

static inline lanes load_lanes(const double *values)
{
    lanes found;
    memcpy(&found, values, sizeof found);
    return found;
}

/* The bits of `found`, and those that differ between two others. */
static inline lane_bits note_difference(lane_bits found, lanes a, lanes b)
{
#ifdef __AVX512F__
    return (lane_bits)_mm512_ternarylogic_epi64((__m512i)found, (__m512i)a, (__m512i)b, 0xf6);
#else
    return found | ((lane_bits)a ^ (lane_bits)b);
#endif
}

static inline double add_lanes(lanes values)
{
    double sum = 0.0;
    for (int j = 0; j < LANES; j++)
        sum += values[j];
    return sum;
}

static inline int any_lane(lane_bits values)
{
    int64_t any = 0;
    for (int j = 0; j < LANES; j++)
        any |= values[j];
    return any != 0;
}

/* Cut a block, `count` numbers and zeros behind them up to a multiple of LANES, into exact sums.
 *
 * Returns 0 where some number is too large, infinite or NaN: `totals` are then of no use. Sets `rest` where the
 * sums lack what `beyond_cuts` gives. The last two cuts are made only where something is left for them.
 */
static inline int cut_block(const double *values, int count, double totals[CUTS], int *rest)
{
    lanes sums[CUTS] = {{0}};
    lane_bits left = {0}, large = {0};
    for (int i = 0; i < count; i += LANES) {
        lanes value = load_lanes(values + i), part;
        large |= ~((value < LARGEST) & (value > -LARGEST)); /* NaN, too */
        for (int level = 0; level < 3; level++) {
            part = (value + CUT[level]) - CUT[level];
            sums[level] += part;
            value -= part;
        }
        left |= (lane_bits)value;
    }
    *rest = any_lane(left);
    if (*rest) {
        left = (lane_bits){0};
        for (int i = 0; i < count; i += LANES) {
            lanes value = load_lanes(values + i), part;
            for (int level = 0; level < 3; level++)
                value -= (value + CUT[level]) - CUT[level];
            for (int level = 3; level < CUTS; level++) {
                part = (value + CUT[level]) - CUT[level];
                sums[level] += part;
                value -= part;
            }
            left |= (lane_bits)value;
        }
        *rest = any_lane(left);
    }
    for (int level = 0; level < CUTS; level++)
        totals[level] = add_lanes(sums[level]);
    return !any_lane(large);
}

/* The sum of a block whose numbers are few bits each, such as 0 and 1; 0 where they are not. */
static inline int sum_plain_block(const double *values, int count, double *total)
{
    lanes sum = {0};
    lane_bits left = {0};
    for (int i = 0; i < count; i += LANES) {
        lanes value = load_lanes(values + i), part = (value + CUT[0]) - CUT[0];
        sum += part;
        left |= (lane_bits)(value - part) | ~((value < LARGEST) & (value > -LARGEST)); /* NaN, too */
    }
    *total = add_lanes(sum);
    return !any_lane(left);
}

/* Numbers of at most 2^15 as multiples of 2^-36, and what that leaves as multiples of 2^-87.
 *
 * Added to such a number, they are the last digits of the sum; sums of its bits are sums of integers, which need
 * fewer steps and hold more than sums of float64.
 */
static const double CLOSE_CUT[2] = {1.5 * 0x1p16, 1.5 * 0x1p-35};
#define SIGN_AND_EXPONENT (-((int64_t)1 << 52))
#define SIGN INT64_MIN

/* Add an integer, in units of 2^32 `unit` and `unit`. */
static inline void add_integer(wide_sum *sum, int64_t integer, double unit)
{
    add_number(sum, (double)(integer >> 32) * 0x1p32 * unit);
    add_number(sum, (double)(integer & 0xffffffff) * unit);
}

static inline uint64_t add_words(lane_words values)
{
    uint64_t sum = 0;
    for (int j = 0; j < LANES; j++)
        sum += values[j];
    return sum;
}

/* Add a block as add_block() does, if its numbers are in the range where two integers hold them; else 0. */
static inline int add_close(wide_sum *sum, const double *values, int count)
{
    const lanes high = CLOSE_CUT[0] + (lanes){0}, low = CLOSE_CUT[1] + (lanes){0};
    lane_words highs = {0}, lows = {0};
    lane_bits large = {0}, left = {0};
    for (int i = 0; i < count; i += LANES) {
        lanes value = load_lanes(values + i), shifted = value + high, rest = value - (shifted - high), last;
        large = note_difference(large, shifted, high); /* NaN has another exponent, too */
        highs += (lane_words)shifted;
        last = rest + low;
        left = note_difference(left, last - low, rest);
        lows += (lane_words)last;
    }
    if (any_lane((large & SIGN_AND_EXPONENT) | (left & ~SIGN)))
        return 0;
    const uint64_t added = (uint64_t)((count + LANES - 1) / LANES * LANES); /* cuts in each sum */
    add_integer(sum, (int64_t)(add_words(highs) - added * double_to_bits(CLOSE_CUT[0])), 0x1p-36);
    add_integer(sum, (int64_t)(add_words(lows) - added * double_to_bits(CLOSE_CUT[1])), 0x1p-87);
    return 1;
}

/* Add a block, `count` numbers and zeros behind them up to a multiple of LANES, to one sum. */
static inline void add_block(wide_sum *sum, const double *values, int count)
{
    double totals[CUTS];
    int rest;
    if (sum->unlike > 0) {
        sum->unlike--;
    } else {
        if (add_close(sum, values, count))
            return;
        sum->unlike = 8;
    }
    if (!cut_block(values, count, totals, &rest)) {
        for (int i = 0; i < count; i++)
            add_number(sum, values[i]);
        return;
    }
    for (int level = 0; level < CUTS; level++)
        if (totals[level] != 0.0)
            add_number(sum, totals[level]);
    for (int i = 0; rest && i < count; i++)
        add_number(sum, beyond_cuts(values[i]));
}

/* Many sums side by side. */

typedef struct {
    double *plane;   /* [capacity][length]; the planes behind the first `count` hold nothing */
    int64_t stride;  /* numbers from one plane to the next */
    int64_t length;
    int count;       /* planes in use */
    int capacity;
} plane_sums;

/* The rounded sum, and what rounding took; nothing of an infinite or NaN sum (Knuth). */
static inline double two_sum(double a, double b, double *lost)
{
    double sum = a + b, shadow = sum - a, error = (a - (sum - shadow)) + (b - shadow);
    *lost = fabs(sum) <= DBL_MAX ? error : 0.0;
    return sum;
}

static inline void open_plane(plane_sums *sums)
{
    memset(sums->plane + sums->count * sums->stride, 0, sizeof(double) * (size_t)sums->length);
    sums->count++;
}

/* Add a number to one sum by way of its terms, which then take the place of its numbers: where there is no
 * further plane, or the numbers are so large that rounding may overflow though the sum does not.
 */
static inline void add_by_terms(plane_sums *sums, int64_t place, double value)
{
    wide_sum sum;
    double terms[MOST_TERMS];
    clear_sum(&sum);
    add_number(&sum, value);
    for (int p = 0; p < sums->count; p++)
        add_number(&sum, sums->plane[p * sums->stride + place]);
    int count = sum_terms(&sum, terms);
    while (sums->count < count && sums->count < sums->capacity)
        open_plane(sums);
    for (int p = 0; p < sums->count; p++)
        sums->plane[p * sums->stride + place] = p < count ? terms[p] : 0.0;
}

#define VERY_LARGE 0x1p1022 /* two that are not larger have a finite sum */

/* Add numbers, which are used up, to the sums from `first` on.
 *
 * There is room for one more plane than there are numbers to a sum, or for more than the terms of any sum.
 */
static inline void add_planes(plane_sums *sums, int64_t first, double *values, int count)
{
    if (!sums->count)
        open_plane(sums);
    double *top = sums->plane + first;
    int64_t large = 0;
    for (int i = 0; i < count; i++)
        large |= (fabs(values[i]) > VERY_LARGE) | (fabs(top[i]) > VERY_LARGE);
    for (int i = 0; large && i < count; i++)
        if (fabs(values[i]) > VERY_LARGE || fabs(top[i]) > VERY_LARGE) {
            add_by_terms(sums, first + i, values[i]);
            values[i] = 0.0;
        }
    for (int p = 0;; p++) {
        if (p == sums->count) {
            uint64_t left = 0;
            for (int i = 0; i < count; i++)
                left |= double_to_bits(values[i]) << 1; /* without the sign: -0 is nothing */
            if (!left)
                return;
            if (p == sums->capacity) {
                for (int i = 0; i < count; i++)
                    if (values[i] != 0.0)
                        add_by_terms(sums, first + i, values[i]);
                return;
            }
            open_plane(sums);
        }
        double *plane = sums->plane + p * sums->stride + first;
        for (int i = 0; i < count; i++)
            plane[i] = two_sum(plane[i], values[i], &values[i]);
    }
}

/* Add one number to one sum. */
static inline void add_to_plane(plane_sums *sums, int64_t place, double value)
{
    if (!sums->count)
        open_plane(sums);
    if (fabs(value) > VERY_LARGE || fabs(sums->plane[place]) > VERY_LARGE) {
        add_by_terms(sums, place, value);
        return;
    }
    for (int p = 0; value != 0.0; p++) {
        if (p == sums->count) {
            if (p == sums->capacity) {
                add_by_terms(sums, place, value);
                return;
            }
            open_plane(sums);
        }
        double *number = sums->plane + p * sums->stride + place;
        *number = two_sum(*number, value, &value);
    }
}

/* Round each sum once: it is then all in the first plane. */
static inline void round_planes(plane_sums *sums)
{
    if (!sums->count)
        open_plane(sums);
    double *first = sums->plane, *second = first + sums->stride;
    for (int64_t i = 0; sums->count > 1 && i < sums->length; i++) {
        double left = 0.0;
        for (int p = 2; p < sums->count; p++)
            left += fabs(sums->plane[p * sums->stride + i]);
        if (left == 0.0 && fabs(first[i]) <= VERY_LARGE) {
            first[i] += second[i];
            continue;
        }
        wide_sum sum;
        double terms[MOST_TERMS];
        clear_sum(&sum);
        for (int p = 0; p < sums->count; p++)
            add_number(&sum, sums->plane[p * sums->stride + i]);
        sum_terms(&sum, terms);
        first[i] = terms[0];
    }
    for (int64_t i = 0; i < sums->length; i++)
        first[i] = isnan(first[i]) ? NAN : first[i] + 0.0;
    sums->count = 1;
}

#endif

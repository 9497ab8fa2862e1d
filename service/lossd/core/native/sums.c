/* Sums of several outputs, to add up the parts of a request. */
#include "exact_sum.h"

#define VISIBLE __attribute__((visibility("default")))

VISIBLE int lossd_add_numbers(double *planes, int64_t length, int count, int capacity, const double *numbers);
VISIBLE int64_t lossd_add_at(double *planes, int64_t length, int *count, int capacity, int64_t n,
                             const int64_t *indices, const double *numbers);
VISIBLE int lossd_make_canonical(double *planes, int64_t length, int count, int capacity);

/* Add a number to each of the sums, kept as planes, [capacity][length]; how many planes are then in use. */
int lossd_add_numbers(double *planes, int64_t length, int count, int capacity, const double *numbers)
{
    plane_sums sums = {planes, length, length, count, capacity};
    double values[BLOCK];
    for (int64_t at = 0; at < length; at += BLOCK) {
        int run = length - at < BLOCK ? (int)(length - at) : BLOCK;
        memcpy(values, numbers + at, sizeof *values * (size_t)run);
        add_planes(&sums, at, values, run);
    }
    return sums.count;
}

/* Add numbers one by one, each to the sum at its index; how many were added before there was too little room.
 *
 * A number may open a plane, and a sum written as its terms another. Any sum's terms fit into more than MOST_TERMS.
 * `count` is the number of planes in use, before and after.
 */
int64_t lossd_add_at(double *planes, int64_t length, int *count, int capacity, int64_t n, const int64_t *indices,
                     const double *numbers)
{
    plane_sums sums = {planes, length, length, *count, capacity};
    int64_t i = 0;
    for (; i < n && (sums.count + 2 <= capacity || capacity > MOST_TERMS); i++)
        add_to_plane(&sums, indices[i], numbers[i]);
    *count = sums.count;
    return i;
}

/* Write each sum as its terms: the sum rounded, what is left rounded, and so on; how many planes that takes.
 *
 * 0 if there is no room for so many: the sums are then as they were, or canonical.
 */
int lossd_make_canonical(double *planes, int64_t length, int count, int capacity)
{
    int most = 1;
    for (int64_t i = 0; i < length; i++) {
        double *first = planes + i, terms[MOST_TERMS];
        int used = 1;
        for (int p = 1; p < count; p++)
            if (first[p * length] != 0.0)
                used = p + 1;
        int wanted;
        if (used <= 2 && !(fabs(first[0]) > VERY_LARGE)) { /* then that is their sum and what its rounding takes */
            terms[1] = 0.0;
            terms[0] = used == 1 ? first[0] : two_sum(first[0], first[length], &terms[1]);
            terms[0] = isnan(terms[0]) ? NAN : terms[0] + 0.0;
            wanted = terms[1] == 0.0 ? 1 : 2;
        } else {
            wide_sum sum;
            clear_sum(&sum);
            for (int p = 0; p < used; p++)
                add_number(&sum, first[p * length]);
            wanted = sum_terms(&sum, terms);
        }
        if (wanted > capacity)
            return 0;
        while (count < wanted) /* a further plane, of zeros */
            memset(planes + count++ * length, 0, sizeof *planes * (size_t)length);
        for (int p = 0; p < count; p++)
            first[p * length] = p < wanted ? terms[p] : 0.0;
        most = wanted > most ? wanted : most;
    }
    return most;
}

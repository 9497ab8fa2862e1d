#ifndef LOSSD_BITS_H
#define LOSSD_BITS_H

#include <stdint.h>
#include <string.h>

/* A float64's bits as an integer, and back. */

static inline __attribute__((always_inline)) uint64_t double_to_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline __attribute__((always_inline)) double bits_to_double(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif

/* Tensors as they were received, read as float64: any dtype, byte order, alignment and strides. */
#ifndef LOSSD_LOAD_H
#define LOSSD_LOAD_H

#include "exact_sum.h"

#define MOST_DIMENSIONS 8

enum { FLOAT16, BFLOAT16, FLOAT32, FLOAT64, BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64 };

/* A tensor, spread over the request's shape. Axes that lie one in the other are one. */
typedef struct {
    int64_t offset;                  /* of its first element from the base, in bytes */
    int64_t length[MOST_DIMENSIONS]; /* of each axis, outermost first */
    int64_t stride[MOST_DIMENSIONS]; /* bytes from one element to the next; 0 where all are the same one */
    int32_t axes;                    /* 0: there is no such tensor */
    int32_t dtype;
    int32_t swapped;                 /* the bytes of an element are in the other order */
    int32_t padding;
} tensor;

static inline double from_float16(uint16_t half)
{
    /* As the top bits of a float64 the value is 2^1008 times too small; a multiplication makes it right, also
     * where it is subnormal. */
    double size = bits_to_double((uint64_t)(half & 0x7fff) << 42) * 0x1p1008;
    size = (half & 0x7c00) == 0x7c00 ? ((half & 0x3ff) ? NAN : INFINITY) : size;
    return (half & 0x8000) ? -size : size;
}

static inline double from_bfloat16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static inline double from_float32(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

#define AS_IT_IS(bits) (bits)
#define SAME_8(bits) (bits)

/* One loop for elements side by side, which vectorizes, and one for all others. */
#define READ(type, swap, convert)                                                                         \
    do {                                                                                                  \
        type bits;                                                                                        \
        if (stride == (int64_t)sizeof(type))                                                              \
            for (int i = 0; i < count; i++) {                                                             \
                memcpy(&bits, from + sizeof(type) * (size_t)i, sizeof bits);                              \
                to[i] = convert(swap(bits));                                                              \
            }                                                                                             \
        else                                                                                              \
            for (int i = 0; i < count; i++) {                                                             \
                memcpy(&bits, from + stride * i, sizeof bits);                                            \
                to[i] = convert(swap(bits));                                                              \
            }                                                                                             \
    } while (0)

#define READ_EITHER(type, swap, convert)                                                                  \
    do {                                                                                                  \
        if (swapped)                                                                                      \
            READ(type, swap, convert);                                                                    \
        else                                                                                              \
            READ(type, AS_IT_IS, convert);                                                                \
    } while (0)

static void read_run(const char *from, int64_t stride, int dtype, int swapped, int count, double *restrict to)
{
    switch (dtype) {
    case FLOAT16: READ_EITHER(uint16_t, __builtin_bswap16, from_float16); break;
    case BFLOAT16: READ_EITHER(uint16_t, __builtin_bswap16, from_bfloat16); break;
    case FLOAT32: READ_EITHER(uint32_t, __builtin_bswap32, from_float32); break;
    case FLOAT64: READ_EITHER(uint64_t, __builtin_bswap64, bits_to_double); break;
    case BOOL: /* a byte other than 0 and 1 is seen for what it is */
    case UINT8: READ(uint8_t, SAME_8, (double)); break;
    case UINT16: READ_EITHER(uint16_t, __builtin_bswap16, (double)); break;
    case UINT32: READ_EITHER(uint32_t, __builtin_bswap32, (double)); break;
    case UINT64: READ_EITHER(uint64_t, __builtin_bswap64, (double)); break;
    case INT8: READ(uint8_t, SAME_8, (double)(int8_t)); break;
    case INT16: READ_EITHER(uint16_t, __builtin_bswap16, (double)(int16_t)); break;
    case INT32: READ_EITHER(uint32_t, __builtin_bswap32, (double)(int32_t)); break;
    case INT64: READ_EITHER(uint64_t, __builtin_bswap64, (double)(int64_t)); break;
    default: break;
    }
}

/* Where the elements [start, start + count) of a tensor lie as float32 one behind the other, at any address; NULL if
 * they do not.
 */
static const char *float32_run(const tensor *tensor, const char *base, int64_t start, int count)
{
    const int last = tensor->axes - 1;
    if (tensor->dtype != FLOAT32 || tensor->swapped || tensor->stride[last] != (int64_t)sizeof(float))
        return NULL;
    const int64_t length = tensor->length[last], column = start % length;
    if (length - column < count)
        return NULL;
    const char *from = base + tensor->offset + column * (int64_t)sizeof(float);
    int64_t outer = start / length;
    for (int axis = last - 1; axis >= 0; axis--) {
        from += outer % tensor->length[axis] * tensor->stride[axis];
        outer /= tensor->length[axis];
    }
    return from;
}

/* Have float32s of the next block fetched while this one is computed with. */
static inline void fetch_next(const char *from, int count)
{
    for (int i = 0; i < count; i += 16)
        __builtin_prefetch(from + sizeof(float) * (size_t)(count + i));
}

/* Read the elements [start, start + count) of a tensor as it is spread over the request's shape, in C order. */
static void read_elements(const tensor *tensor, const char *base, int64_t start, int count, double *to)
{
    const int last = tensor->axes - 1;
    const int64_t length = tensor->length[last], stride = tensor->stride[last];
    int64_t row = start / length, column = start % length;
    while (count > 0) {
        const char *from = base + tensor->offset + column * stride;
        int64_t outer = row;
        for (int axis = last - 1; axis >= 0; axis--) {
            from += outer % tensor->length[axis] * tensor->stride[axis];
            outer /= tensor->length[axis];
        }
        int run = length - column < count ? (int)(length - column) : count;
        if (stride) {
            read_run(from, stride, tensor->dtype, tensor->swapped, run, to);
        } else {
            read_run(from, 0, tensor->dtype, tensor->swapped, 1, to);
            for (int i = 1; i < run; i++)
                to[i] = to[0];
        }
        to += run;
        count -= run;
        row++;
        column = 0;
    }
}

#endif

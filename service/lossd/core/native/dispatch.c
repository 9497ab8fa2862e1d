/* Which of the builds of kernel.c this CPU can run, and which losses there are. */
#include <stddef.h>

#include "catalog.h"

#define VISIBLE __attribute__((visibility("default")))

/* The place of the widest vector instructions in WIDTHS of lossd.core.native: avx512, avx2, sse2. */
VISIBLE int lossd_best_width(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        return 0;
    if (__builtin_cpu_supports("avx2"))
        return 1;
    return 2;
#else
    return 3;
#endif
}

#define NAME_OF(name) #name,

/* The name of the loss with a number; NULL behind the last. */
VISIBLE const char *lossd_loss_name(int number)
{
    static const char *const names[] = {ELEMENT_LOSSES(NAME_OF) ROW_LOSSES(NAME_OF) NULL};
    return names[number];
}

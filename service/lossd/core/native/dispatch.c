/* Which of the builds of kernel.c this CPU can run. */
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

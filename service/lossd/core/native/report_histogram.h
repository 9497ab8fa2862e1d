/* Losses counted by their size. */
#ifndef LOSSD_REPORT_HISTOGRAM_H
#define LOSSD_REPORT_HISTOGRAM_H

#include "report_figures.h"

static int64_t histogram_bin(double value)
{
    const uint64_t bits = double_to_bits(value);
    if ((bits << 1) == 0)
        return HISTOGRAM_BINS;
    if ((bits & 0x7ff0000000000000) == 0x7ff0000000000000)
        return HISTOGRAM_BINS + (isnan(value) ? 2 : 1);
    return (int64_t)(bits >> 48);
}

static void add_histogram(const report *report, const block *block, figures *figures)
{
    for (int i = 0; i < block->count; i++) {
        if (!is_kept(block, i))
            continue;
        int64_t bin = histogram_bin(block->loss[i]);
        add_count(figures, report->at.histogram_elements + bin, 1);
        if (report->weighted)
            add_one(&figures->arrays, report->at.histogram_weight - report->single_sums + bin, block->weight[i],
                    figures);
    }
}

#endif

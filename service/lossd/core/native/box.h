/* Losses of boxes: the steps of core/losses/box.py, bit for bit. */
#ifndef LOSSD_BOX_H
#define LOSSD_BOX_H

#include "arctangent.h"
#include "rows.h"

enum { LOSSD_IOU, LOSSD_GIOU, LOSSD_DIOU, LOSSD_CIOU };
enum { LOSSD_XYXY, LOSSD_CXCYWH };

#define LOSSD_4_OVER_PI_SQUARED 0x1.9f02f6222c720p-2

/* Two intervals, a box's and its target's along one axis: an eighth of each, so that no difference overflows. */
typedef struct {
    double size, target_size, growth; /* growth: the target's size less the box's */
    double left, right;               /* by how much the box reaches beyond the target, which may be less than 0 */
    double across, back;              /* from the target's first end to the box's last, and the other way round */
    double shift;                     /* of the box's centre from the target's, twice */
} lossd_interval;

LOSSD_INLINE lossd_interval lossd_interval_of_ends(double a, double b, double c, double d) {
    a *= 0.125, b *= 0.125, c *= 0.125, d *= 0.125;
    lossd_two size = lossd_sum(b, -a), target = lossd_sum(d, -c);
    lossd_interval interval;
    interval.size = size.hi;
    interval.target_size = target.hi;
    interval.growth = (target.hi - size.hi) + (target.lo - size.lo);
    interval.left = c - a;
    interval.right = b - d;
    interval.across = b - c;
    interval.back = d - a;
    interval.shift = interval.right - interval.left;
    return interval;
}

LOSSD_INLINE lossd_interval lossd_interval_of_centre(double a, double size, double c, double target_size) {
    a *= 0.125, size *= 0.125, c *= 0.125, target_size *= 0.125;
    lossd_two shift = lossd_sum(a, -c), wider = lossd_sum(0.5 * size, -(0.5 * target_size));
    lossd_two left = lossd_plus(wider, lossd_minus(shift)), right = lossd_plus(wider, shift);
    double middle = 0.5 * size + 0.5 * target_size;
    lossd_interval interval;
    interval.size = size;
    interval.target_size = target_size;
    interval.growth = target_size - size;
    interval.left = left.hi + left.lo;
    interval.right = right.hi + right.lo;
    interval.across = middle + shift.hi;
    interval.back = middle - shift.hi;
    interval.shift = 2.0 * shift.hi;
    return interval;
}

/* The power of two that brings a size >= 0 into [1, 2); 0 stays 0. */
LOSSD_INLINE double lossd_scale_of(double size) {
    return bits_to_double((2046 - (double_to_bits(size) >> 52 & 0x7ff)) << 52);
}

/* What two intervals have in common and what not, scaled so that what spans both is 1 to 2. */
typedef struct {
    double size, target_size;
    double common;          /* at most 0 where they are apart */
    double own, target_own; /* what of each is not in the other, where they are not apart */
    double span;            /* from the first end of either to the last */
    double scale, unscaled; /* the factor; the span without it */
} lossd_overlap;

LOSSD_INLINE double lossd_above_0(double value) { return value > 0.0 ? value : 0.0; }

LOSSD_INLINE lossd_overlap lossd_overlap_of(lossd_interval at) {
    int left = at.left > 0.0, right = at.right > 0.0;
    double common = right ? (left ? at.target_size : at.back) : (left ? at.across : at.size);
    double span = right ? (left ? at.size : at.across) : (left ? at.back : at.target_size);
    double scale = lossd_scale_of(span);
    lossd_overlap overlap;
    overlap.size = at.size * scale;
    overlap.target_size = at.target_size * scale;
    overlap.common = common * scale;
    overlap.own = (lossd_above_0(at.left) + lossd_above_0(at.right)) * scale;
    overlap.target_own = (lossd_above_0(-at.left) + lossd_above_0(-at.right)) * scale;
    overlap.span = span * scale;
    overlap.scale = scale;
    overlap.unscaled = span;
    return overlap;
}

/* What two boxes have that is not common, over all that they have. */
LOSSD_INLINE double lossd_distance_of_areas(lossd_overlap x, lossd_overlap y, int meet) {
    double own = x.own * y.size + x.common * y.own;
    double target_own = x.target_own * y.target_size + x.common * y.target_own;
    double apart = own + target_own, whole = apart + x.common * y.common;
    return meet & (whole > 0.0) ? apart / whole : 1.0;
}

/* The share of the smallest box around both that is in neither. */
LOSSD_INLINE double lossd_gap(lossd_overlap x, lossd_overlap y, int meet) {
    double around = x.span * y.span;
    double corners = x.own * y.target_own + x.target_own * y.own; /* all that is in neither, where they meet */
    double rest = lossd_above_0(around - (x.size * y.size + x.target_size * y.target_size));
    return around > 0.0 ? (meet ? corners : rest) / around : 0.0;
}

/* The distance of the centres over the diagonal of the smallest box around both, squared. */
LOSSD_INLINE double lossd_offset(lossd_interval x, lossd_interval y, lossd_overlap over_x, lossd_overlap over_y) {
    double scale = over_x.scale < over_y.scale ? over_x.scale : over_y.scale;
    double dx = 0.5 * x.shift * scale, dy = 0.5 * y.shift * scale;
    double width = over_x.unscaled * scale, height = over_y.unscaled * scale;
    double diagonal = width * width + height * height;
    return diagonal > 0.0 ? (dx * dx + dy * dy) / diagonal : 0.0;
}

/* The angle between the boxes' diagonals; a box without any size has that of one without width. */
LOSSD_INLINE double lossd_angle(lossd_interval x, lossd_interval y) {
    int alike = (fabs(x.growth) <= 0.5 * x.size) & (fabs(y.growth) <= 0.5 * y.size);
    double scale = lossd_scale_of(x.size > y.size ? x.size : y.size);
    double target = lossd_scale_of(x.target_size > y.target_size ? x.target_size : y.target_size);
    double width = x.size * scale, height = y.size * scale;
    target = alike ? scale : target;
    double target_width = x.target_size * target, target_height = y.target_size * target;
    double grown = x.growth * scale * height - width * (y.growth * scale); /* keeps the digits of a small angle */
    double over = fabs(alike ? grown : target_width * height - width * target_height);
    double under = target_height * height + target_width * width;
    int point = (width == 0.0) & (height == 0.0), target_point = (target_width == 0.0) & (target_height == 0.0);
    over = point ? target_width : target_point ? width : over;
    under = point ? target_height : target_point ? height : under;
    return lossd_arctangent(over, under);
}

/* What complete IoU takes for the difference of the shapes; `distance` is 1 - IoU. */
LOSSD_INLINE double lossd_shape_cost(double angle, double distance) {
    double v = angle * angle * LOSSD_4_OVER_PI_SQUARED;
    return v > 0.0 ? v * (v / (distance + v)) : 0.0;
}

LOSSD_INLINE double lossd_box_of(int variant, lossd_interval x, lossd_interval y) {
    lossd_overlap over_x = lossd_overlap_of(x), over_y = lossd_overlap_of(y);
    int meet = (over_x.common > 0.0) & (over_y.common > 0.0);
    double distance = lossd_distance_of_areas(over_x, over_y, meet), loss = distance;
    if (variant == LOSSD_GIOU) loss = distance + lossd_gap(over_x, over_y, meet);
    if (variant >= LOSSD_DIOU) loss = distance + lossd_offset(x, y, over_x, over_y);
    if (variant == LOSSD_CIOU) loss = loss + lossd_shape_cost(lossd_angle(x, y), distance);
    double all = (x.left + x.right) + (y.left + y.right);
    return all == all ? loss : NAN;
}

LOSSD_INLINE void lossd_boxes(int variant, int format, int n, const double *restrict x, const double *restrict y,
                              double *restrict loss) {
    for (int i = 0; i < n; i++) {
        const double *a = x + 4 * i, *b = y + 4 * i;
        loss[i] = format == LOSSD_XYXY ? lossd_box_of(variant, lossd_interval_of_ends(a[0], a[2], b[0], b[2]),
                                                      lossd_interval_of_ends(a[1], a[3], b[1], b[3]))
                                       : lossd_box_of(variant, lossd_interval_of_centre(a[0], a[2], b[0], b[2]),
                                                      lossd_interval_of_centre(a[1], a[3], b[1], b[3]));
    }
}

/* Refuse the first box that is inverted. */
static int lossd_check_boxes(rows *rows, int format, int n, const double *restrict x, int rule) {
    int64_t wrong = 0;
    for (int i = 0; i < n; i++) {
        const double *a = x + 4 * i;
        wrong |= format == LOSSD_XYXY ? (a[2] < a[0]) | (a[3] < a[1]) : (a[2] < 0.0) | (a[3] < 0.0);
    }
    for (int i = 0; wrong && i < 4 * n; i++) {
        double least = format == LOSSD_XYXY ? x[i & ~2] : 0.0;
        if ((i & 2) && x[i] < least) return refuse_row(rows, rule, i, x[i]);
    }
    return 1;
}

static int lossd_box(const formula *how, rows *rows, const row_results *to) {
    const int variant = (int)how->own[1], format = (int)how->own[2], n = rows->count;
    if (!read_rows(rows, 0, 4 * n) || !lossd_check_boxes(rows, format, n, rows->x, RULE_BOX) ||
        !lossd_check_boxes(rows, format, n, rows->y, RULE_TARGET_BOX))
        return 0;
#define LOSSD_BOXES(format)                                                           \
    do {                                                                              \
        if (variant == LOSSD_IOU)                                                     \
            lossd_boxes(LOSSD_IOU, format, n, rows->x, rows->y, to->loss);            \
        else if (variant == LOSSD_GIOU)                                               \
            lossd_boxes(LOSSD_GIOU, format, n, rows->x, rows->y, to->loss);           \
        else if (variant == LOSSD_DIOU)                                               \
            lossd_boxes(LOSSD_DIOU, format, n, rows->x, rows->y, to->loss);           \
        else                                                                          \
            lossd_boxes(LOSSD_CIOU, format, n, rows->x, rows->y, to->loss);           \
    } while (0)
    if (format == LOSSD_XYXY)
        LOSSD_BOXES(LOSSD_XYXY);
    else
        LOSSD_BOXES(LOSSD_CXCYWH);
    for (int i = 0; i < n; i++) to->targets[i] = 1.0;
    return 1;
}

#endif

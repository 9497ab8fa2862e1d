// Written by `make reference` from lossd/core/catalog.py: change that.

import type { TensorLike } from "./types.js";

/** Binary cross entropy with logits. The server checks the values. */
export interface BceParams {
  /**
   * What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights;
   * `positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each
   * output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | "positives" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /** `index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot. */
  readonly targets_format?: "dense" | "index";
  /** Moves targets towards 1/2, by e: each target y becomes y (1 - e) + e / 2. */
  readonly label_smoothing?: number;
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /**
   * With index targets: an id equal to this is of no class. The targets of all its classes are 0, and
   * count (a detector's background; `ignore_index` would drop them, which is another loss).
   */
  readonly background_index?: number | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
  /**
   * What the loss of positives is multiplied by: one number, or one for every class; by default 1. Over
   * 1 a missed positive costs more than a false alarm; a common choice is negatives / positives.
   */
  readonly pos_weight?: number | TensorLike | null;
}

/** Focal loss. The server checks the values. */
export interface FocalParams {
  /**
   * How much less easy elements count, those that the model gets right: each loss is multiplied by (1 -
   * p_t)^gamma, where p_t is the probability that it gives the truth. With 0 all count alike.
   */
  readonly gamma?: number;
  /**
   * The balance of positives and negatives: the loss of a positive is multiplied by alpha, that of a
   * negative by 1 - alpha. One number, or one for every class; null: neither is multiplied.
   */
  readonly alpha?: number | readonly number[] | Float32Array | Float64Array | null;
  /**
   * What is raised to the power gamma. `sigmoid`: 1 - p_t, the usual focal loss; `quality`: |y - p|, for
   * targets that are scores from 0 to 1 (QFocalLoss); `exp`: 1 + 1e-6 - exp(-BCE), YOLOv5's other form,
   * in which alpha multiplies negatives too.
   */
  readonly variant?: "sigmoid" | "exp" | "quality";
  /**
   * What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights;
   * `positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each
   * output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | "positives" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /** `index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot. */
  readonly targets_format?: "dense" | "index";
  /** Moves targets towards 1/2, by e: each target y becomes y (1 - e) + e / 2. */
  readonly label_smoothing?: number;
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /**
   * With index targets: an id equal to this is of no class. The targets of all its classes are 0, and
   * count (a detector's background; `ignore_index` would drop them, which is another loss).
   */
  readonly background_index?: number | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
  /**
   * What the loss of positives is multiplied by: one number, or one for every class; by default 1. Over
   * 1 a missed positive costs more than a false alarm; a common choice is negatives / positives.
   */
  readonly pos_weight?: number | TensorLike | null;
}

/** Asymmetric loss. The server checks the values. */
export interface AsymmetricParams {
  /** How much less easy positives count: (1 - p)^gamma_pos. */
  readonly gamma_pos?: number;
  /** How much less easy negatives count: m^gamma_neg. */
  readonly gamma_neg?: number;
  /** Negatives with a probability up to this cost nothing. */
  readonly clip?: number;
  /**
   * What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights;
   * `positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each
   * output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | "positives" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /** `index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot. */
  readonly targets_format?: "dense" | "index";
  /** Moves targets towards 1/2, by e: each target y becomes y (1 - e) + e / 2. */
  readonly label_smoothing?: number;
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /**
   * With index targets: an id equal to this is of no class. The targets of all its classes are 0, and
   * count (a detector's background; `ignore_index` would drop them, which is another loss).
   */
  readonly background_index?: number | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
}

/** Varifocal loss. The server checks the values. */
export interface VarifocalParams {
  /** What the loss of negatives is multiplied by. */
  readonly alpha?: number;
  /** How much less easy negatives count: p^gamma. */
  readonly gamma?: number;
  /**
   * What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights;
   * `positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each
   * output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | "positives" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /** `index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot. */
  readonly targets_format?: "dense" | "index";
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /**
   * With index targets: an id equal to this is of no class. The targets of all its classes are 0, and
   * count (a detector's background; `ignore_index` would drop them, which is another loss).
   */
  readonly background_index?: number | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
}

/** Cross entropy of classes. The server checks the values. */
export interface CrossEntropyParams {
  /**
   * `index`: targets holds the class id of each row, in the inputs' shape less `class_axis`. `dense`: a
   * probability of every class, in the inputs' shape. By default whichever of the two shapes targets
   * has.
   */
  readonly targets_format?: "dense" | "index" | null;
  /** Moves targets towards 1/C, by e: each target y becomes y (1 - e) + e / C, with C classes. */
  readonly label_smoothing?: number;
  /**
   * A weight for each class: a row counts with the weight of its target's class. With
   * `normalizer=weight` the mean of class ids is torch's weighted mean.
   */
  readonly class_weight?: readonly number[] | Float32Array | Float64Array | null;
  /**
   * What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights;
   * `positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each
   * output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | "positives" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
}

/** Focal loss of classes. The server checks the values. */
export interface SoftmaxFocalParams {
  /**
   * `index`: targets holds the class id of each row, in the inputs' shape less `class_axis`. `dense`: a
   * probability of every class, in the inputs' shape. By default whichever of the two shapes targets
   * has.
   */
  readonly targets_format?: "dense" | "index" | null;
  /** Moves targets towards 1/C, by e: each target y becomes y (1 - e) + e / C, with C classes. */
  readonly label_smoothing?: number;
  /** How much less easy rows count: (1 - p_c)^gamma. */
  readonly gamma?: number;
  /**
   * A factor for each class, by which the loss of its rows is multiplied; by default none. It is no
   * weight: a mean with `normalizer=weight` does not divide by it.
   */
  readonly alpha?: readonly number[] | Float32Array | Float64Array | null;
  /**
   * What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights;
   * `positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each
   * output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | "positives" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
}

/** Dice loss. The server checks the values. */
export interface DiceParams {
  /**
   * Added to the divisor: the larger it is, the smaller are losses of small objects. With 0 a sample
   * without targets costs 1, unless every p is 0.
   */
  readonly smooth?: number;
  /**
   * One loss for each `sample`, an index of axis 0; for each `class`, over all samples; or for `all`
   * together.
   */
  readonly per?: "sample" | "class" | "all";
  /**
   * What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights;
   * `positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each
   * output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | "positives" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /** `index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot. */
  readonly targets_format?: "dense" | "index";
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /**
   * With index targets: an id equal to this is of no class. The targets of all its classes are 0, and
   * count (a detector's background; `ignore_index` would drop them, which is another loss).
   */
  readonly background_index?: number | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
}

/** Tversky loss. The server checks the values. */
export interface TverskyParams {
  /**
   * Added to the divisor: the larger it is, the smaller are losses of small objects. With 0 a sample
   * without targets costs 1, unless every p is 0.
   */
  readonly smooth?: number;
  /**
   * One loss for each `sample`, an index of axis 0; for each `class`, over all samples; or for `all`
   * together.
   */
  readonly per?: "sample" | "class" | "all";
  /** What false positives are multiplied by. */
  readonly alpha?: number;
  /** What false negatives are multiplied by. */
  readonly beta?: number;
  /**
   * What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights;
   * `positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each
   * output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | "positives" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /** `index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot. */
  readonly targets_format?: "dense" | "index";
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /**
   * With index targets: an id equal to this is of no class. The targets of all its classes are 0, and
   * count (a detector's background; `ignore_index` would drop them, which is another loss).
   */
  readonly background_index?: number | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
}

/** Squared error. The server checks the values. */
export interface SquaredParams {
  /**
   * What a mean divides by. `count`: the number of losses; `weight`: the sum of their weights; or a
   * number. Under `axis` each output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /** `index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot. */
  readonly targets_format?: "dense" | "index";
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /**
   * With index targets: an id equal to this is of no class. The targets of all its classes are 0, and
   * count (a detector's background; `ignore_index` would drop them, which is another loss).
   */
  readonly background_index?: number | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
}

/** Hinge loss. The server checks the values. */
export interface HingeParams {
  /**
   * What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights;
   * `positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each
   * output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | "positives" | number;
  /**
   * The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or
   * `class_weight` lies along it.
   */
  readonly class_axis?: number;
  /** `index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot. */
  readonly targets_format?: "dense" | "index";
  /**
   * A target equal to this drops its element, or with index targets all of its classes: it counts in
   * nothing. `nan`: a NaN or null target does.
   */
  readonly ignore_index?: number | "nan" | null;
  /**
   * With index targets: an id equal to this is of no class. The targets of all its classes are 0, and
   * count (a detector's background; `ignore_index` would drop them, which is another loss).
   */
  readonly background_index?: number | null;
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
}

/** Loss of boxes. The server checks the values. */
export interface BoxParams {
  /**
   * What a mean divides by. `count`: the number of losses; `weight`: the sum of their weights; or a
   * number. Under `axis` each output has its own divisor.
   */
  readonly normalizer?: "count" | "weight" | number;
  /**
   * `iou`: the boxes' overlap over their union; `giou`: IoU, less the part of the smallest enclosing box
   * that neither box covers; `diou`: IoU, less the distance of their centres; `ciou`: less that and the
   * difference of their shapes.
   */
  readonly variant?: "iou" | "giou" | "diou" | "ciou";
  /** How a box is written: two corners, or its centre, width and height. */
  readonly format?: "xyxy" | "cxcywh";
  /** Whether a NaN propagates, instead of being an error that names its place. */
  readonly allow_nan?: boolean;
}

/** The parameters of each loss. */
export interface LossParams {
  readonly bce: BceParams;
  readonly focal: FocalParams;
  readonly asymmetric: AsymmetricParams;
  readonly varifocal: VarifocalParams;
  readonly cross_entropy: CrossEntropyParams;
  readonly softmax_focal: SoftmaxFocalParams;
  readonly dice: DiceParams;
  readonly tversky: TverskyParams;
  readonly squared: SquaredParams;
  readonly hinge: HingeParams;
  readonly box: BoxParams;
}

/** The names that the inputs of each loss may have. */
export interface LossInputs {
  readonly bce: "logits" | "probabilities";
  readonly focal: "logits" | "probabilities";
  readonly asymmetric: "logits" | "probabilities";
  readonly varifocal: "logits" | "probabilities";
  readonly cross_entropy: "logits";
  readonly softmax_focal: "logits";
  readonly dice: "logits" | "probabilities";
  readonly tversky: "logits" | "probabilities";
  readonly squared: "logits";
  readonly hinge: "logits";
  readonly box: "boxes";
}

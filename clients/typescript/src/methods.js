// Written by `make reference` from lossd/core/catalog.py: change that.

/** @import * as Types from "./types.js" */

/** The names that inputs may have. */
export const INPUTS = ["logits", "probabilities", "boxes"];

/**
 * The parameters in the `params` of each loss's results, and what one loss value belongs to.
 * @type {Readonly<Record<Types.LossName, Types.LossFacts>>}
 */
export const LOSSES = {
  bce: { own: [], row: "" },
  focal: { own: ["gamma", "alpha", "variant"], row: "" },
  asymmetric: { own: ["gamma_pos", "gamma_neg", "clip"], row: "" },
  varifocal: { own: ["alpha", "gamma"], row: "" },
  cross_entropy: { own: ["class_weight"], row: "classes" },
  softmax_focal: { own: ["gamma", "alpha"], row: "classes" },
  dice: { own: ["smooth", "per"], row: "sample" },
  tversky: { own: ["smooth", "per", "alpha", "beta"], row: "sample" },
  squared: { own: [], row: "" },
  hinge: { own: [], row: "" },
  box: { own: ["variant", "format"], row: "box" },
};

/** A method for each loss. */
export class LossMethods {
  #score;

  /**
   * @param {Types.Score} score
   */
  constructor(score) {
    this.#score = score;
  }

  /**
   * Binary cross entropy with logits: `w [k y softplus(-x) + (1 - y) softplus(x)]` for logits x, targets y,
   * weight w and pos_weight k, in float64 with both tails kept; or `w [k y (-log p) + (1 - y) (-log1p(-p))]`
   * for probabilities p.
   * @type {Types.LossMethod<Types.LossRequests["bce"]>}
   */
  bce = (
    /** @type {Types.LossRequests["bce"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("bce", request, options);

  /**
   * Focal loss: `w a_t m^gamma BCE`, with `m = y sigmoid(-x) + (1 - y) sigmoid(x)` and `a_t = y alpha + (1 -
   * y) (1 - alpha)`: focal loss as YOLOv5 defines it.
   * @type {Types.LossMethod<Types.LossRequests["focal"]>}
   */
  focal = (
    /** @type {Types.LossRequests["focal"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("focal", request, options);

  /**
   * Asymmetric loss: `y L+ + (1 - y) L-`, with `L+ = (1 - p)^gamma_pos (-log p)`, `L- = m^gamma_neg (-log(1 -
   * m))` and `m = max(p - clip, 0)`, for p = sigmoid(x): for labels of which few are positive.
   * @type {Types.LossMethod<Types.LossRequests["asymmetric"]>}
   */
  asymmetric = (
    /** @type {Types.LossRequests["asymmetric"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("asymmetric", request, options);

  /**
   * Varifocal loss: `q BCE(x, q)` for a target q over 0, else `alpha p^gamma BCE(x, 0)`, with p = sigmoid(x):
   * for targets that are scores, such as the overlap of a box with its object.
   * @type {Types.LossMethod<Types.LossRequests["varifocal"]>}
   */
  varifocal = (
    /** @type {Types.LossRequests["varifocal"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("varifocal", request, options);

  /**
   * Cross entropy of classes: `-sum_c w_c y_c log p_c` for each row of C logits, with p = softmax(x) and
   * class_weight w.
   * @type {Types.LossMethod<Types.LossRequests["cross_entropy"]>}
   */
  cross_entropy = (
    /** @type {Types.LossRequests["cross_entropy"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("cross_entropy", request, options);

  /**
   * Focal loss of classes: `-sum_c a_c y_c (1 - p_c)^gamma log p_c` for each row of C logits, with p =
   * softmax(x): cross entropy in which rows that the model gets right count less.
   * @type {Types.LossMethod<Types.LossRequests["softmax_focal"]>}
   */
  softmax_focal = (
    /** @type {Types.LossRequests["softmax_focal"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("softmax_focal", request, options);

  /**
   * Dice loss: `(alpha FP + beta FN) / (TP + alpha FP + beta FN + smooth)`, with the exact sums `TP = sum p
   * y`, `FP = sum p (1 - y)` and `FN = sum (1 - p) y`, p = sigmoid(x), alpha = beta = 1/2.
   * @type {Types.LossMethod<Types.LossRequests["dice"]>}
   */
  dice = (
    /** @type {Types.LossRequests["dice"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("dice", request, options);

  /**
   * Tversky loss: `(alpha FP + beta FN) / (TP + alpha FP + beta FN + smooth)`, with the exact sums `TP = sum
   * p y`, `FP = sum p (1 - y)` and `FN = sum (1 - p) y`, p = sigmoid(x): dice loss whose errors weigh
   * differently.
   * @type {Types.LossMethod<Types.LossRequests["tversky"]>}
   */
  tversky = (
    /** @type {Types.LossRequests["tversky"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("tversky", request, options);

  /**
   * Squared error: `(x - y)^2`, for any finite targets.
   * @type {Types.LossMethod<Types.LossRequests["squared"]>}
   */
  squared = (
    /** @type {Types.LossRequests["squared"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("squared", request, options);

  /**
   * Hinge loss: `max(0, 1 - (2 y - 1) x)`: nothing for an input that is right by a margin of 1.
   * @type {Types.LossMethod<Types.LossRequests["hinge"]>}
   */
  hinge = (
    /** @type {Types.LossRequests["hinge"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("hinge", request, options);

  /**
   * Loss of boxes: `1 - v` of each box and its target, v being their overlap (IoU) or what `variant` makes of
   * it.
   * @type {Types.LossMethod<Types.LossRequests["box"]>}
   */
  box = (
    /** @type {Types.LossRequests["box"]} */ request,
    /** @type {Types.CallOptions | undefined} */ options,
  ) => this.#score("box", request, options);
}

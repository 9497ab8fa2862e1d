// Sums without rounding error: their bits do not depend on the order or grouping of the numbers.

const bits = new DataView(new ArrayBuffer(8));

/**
 * A finite float64 as a multiple of the smallest one, 2 ** -1074.
 * @param {number} number
 */
function unitsOf(number) {
  bits.setFloat64(0, number);
  const word = bits.getBigUint64(0);
  const exponent = (word >> 52n) & 0x7ffn;
  const fraction = word & 0xfffffffffffffn;
  const units = exponent ? (fraction | (1n << 52n)) << (exponent - 1n) : fraction;
  return number < 0 ? -units : units;
}

/**
 * That multiple as the nearest float64, ties to even; infinite beyond the largest.
 * @param {bigint} units
 */
function rounded(units) {
  // Number() rounds so. Of what is too large for it the first 57 bits or more are kept, and one for the others.
  const excess = BigInt(Math.max(0, 4 * units.toString(16).length - 64));
  let kept = units >> excess;
  if (kept << excess !== units) kept |= 1n;
  return Number(kept) * 2 ** (Number(excess) - 1074);
}

/** A running sum. */
export class ExactSum {
  #units = 0n;
  #special = 0; // the sum of infinities and NaN

  /**
   * Add numbers.
   * @param {Iterable<number>} numbers
   * @returns {this}
   */
  add(numbers) {
    for (const number of numbers) {
      if (Number.isFinite(number)) this.#units += unitsOf(number);
      else this.#special += number;
    }
    return this;
  }

  /** The sum, rounded once. */
  get value() {
    return /** @type {number} */ (this.terms[0]);
  }

  /** Numbers that add up to the sum exactly: the sum rounded, the rest rounded, and so on. */
  get terms() {
    if (this.#special !== 0) return [this.#special];
    /** @type {number[]} */
    const terms = [];
    let rest = this.#units;
    do {
      const term = rounded(rest);
      if (!Number.isFinite(term)) return [term];
      terms.push(term);
      rest -= unitsOf(term);
    } while (rest);
    return terms;
  }
}

/**
 * The sum of numbers, rounded once, as Python's `math.fsum`. Sums beyond float64 are infinite.
 * @param {Iterable<number>} numbers
 */
export function fsum(numbers) {
  return new ExactSum().add(numbers).value;
}

"""Where the loss of a digit must rest: the exact loss of one who knows part of the question.

A predictor that has learned to use some of the information pays, on average, the conditional
entropy of the digit given that information, in nats (Shannon 1948). For uniform operands it can be
calculated. Columns are independent but for the carry, so all that is known about lower columns
enters through one number, p = P(c_k = 1 | what is known). Its distribution follows column by column
from the units up, in exact fractions; with c_0 = 0, a column turns p into

- P(s ≥ B) + P(s = B - 1) · p, if nothing of it is known;
- (d + p) / B, if one operand digit d is known, a uniform d = 0…B - 1;
- 1, 0 or p, if the pair is known, for a sum of at least B, below B - 1, or B - 1.

The answer digits written so far are visible too (teacher forcing). Written from the top, they form
one number V that tells something about the carry *out of* column k: with N = B^m for the m columns
above, V = u < N arises from u + 1 pairs of operands without that carry and from u with it; from N
on it is the mirror image. Written from the units, the visible answer digit a of a column changes
the rules: with nothing else known of it p becomes (B - 1 - a + p) / B, with one operand digit 1, 0
or p; and the pair with a tells the carry into the column, so the carry out of it is known.

Sums over V and over p have up to B^n terms; those beyond the first thousand are summed by the
Euler-Maclaurin formula.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.special import entr

from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import bucket_probabilities

TERMS = 1024
"""So many terms of a sum are added one by one."""

KINDS = ("none", "one", "pair")
"""What can be known of a column: none of its operand digits, one, or both."""


@dataclass(frozen=True)
class Knowledge:
    """What an ideal predictor of one answer digit uses.

    Args:
        own: of the operand digits of its own column: ``"none"``, ``"one"`` or the ``"pair"``.
        below: the same of the next columns down, from the nearest on; columns further down are
            unknown.
        visible: whether it uses the answer digits written before.

    Raises:
        ValueError: another word than these three.
    """

    own: str = "none"
    below: tuple[str, ...] = ()
    visible: bool = True

    def __post_init__(self) -> None:
        for kind in (self.own, *self.below):
            if kind not in KINDS:
                raise ValueError(
                    f"{kind!r}: what is known of a column must be one of {', '.join(KINDS)}"
                )


@dataclass(frozen=True)
class CarryBelief:
    """Distribution of p = P(c_k = 1 | what is known of lower columns), over what there is to know.

    ``parts`` maps (q, N) to a probability that is spread evenly over p = q/N, (q + 1)/N, … (q + N -
    1)/N. With N = 1 it is one value.
    """

    parts: dict[tuple[Fraction, int], Fraction]

    @property
    def mean(self) -> Fraction:
        """P(c_k = 1)."""
        means = ((q + Fraction(size - 1, 2)) / size for q, size in self.parts)
        return sum((w * p for w, p in zip(self.parts.values(), means, strict=True)), Fraction(0))

    def values(self) -> Iterator[tuple[Fraction, Fraction]]:
        """Each value of p with its probability.

        Raises:
            ValueError: more values than can be gone through one by one.
        """
        if sum(size for _, size in self.parts) > TERMS:
            raise ValueError(
                f"below: one digit of so many columns leaves over {TERMS} values of P(carry)"
            )
        for (q, size), weight in self.parts.items():
            for j in range(size):
                yield (q + j) / size, weight / size


# ------------------------------------------------------------------ levels of a digit
def expected_loss(task: AdditionTask, k: int, knowledge: Knowledge) -> float:
    """Cross-entropy of answer digit A_k, nats, of an ideal predictor, for uniform operands.

    With everything known it is 0. For two-digit sums in base ten A1 with its pair known,
    ``Knowledge("pair")``, costs 0.9 · h(0.45) = 0.619, h being :func:`entropy`: at a sum of 9 the
    visible top digit tells the carry.

    Raises:
        ValueError: there is no such digit, the knowledge is of columns that aren't there, or it has
            too many cases.
    """
    n = task.n_digits
    check_digit(task, k, knowledge.below)
    if k == n and knowledge.own != "none":
        raise ValueError(f"own = {knowledge.own!r}: the top digit A{n} has no pair of its own")
    belief = carry_belief(task, k, knowledge)
    if k == n:
        return _mean_entropy(belief)
    if not (knowledge.visible and task.answer_order == "msd" and task.carry):
        return _mean_entropy(belief) if knowledge.own == "pair" else any_digit(task)
    cases = [(float(p), float(weight)) for p, weight in belief.values()]
    return math.fsum(
        weight * _given_top(task.base, p, knowledge.own, n - k - 1) for p, weight in cases
    )


def check_digit(task: AdditionTask, k: int, below: tuple[str, ...]) -> None:
    """Raise ValueError unless there is a digit A_k with as many columns below it."""
    if not 0 <= k <= task.n_digits:
        raise ValueError(f"k = {k}: this task has answer digits A0 to A{task.n_digits}")
    if len(below) > k:
        raise ValueError(f"below = {below}: A{k} has {k} columns below it, none below the units")


def carry_belief(task: AdditionTask, k: int, knowledge: Knowledge) -> CarryBelief:
    """What the lower columns tell about c_k, by a pass over them from the units up.

    Raises:
        ValueError: the knowledge has too many cases.
    """
    belief = CarryBelief({(Fraction(0), 1): Fraction(1)})
    seen = knowledge.visible and task.answer_order == "lsd"
    if task.carry:
        for kind in ("none",) * (k - len(knowledge.below)) + knowledge.below[::-1]:
            belief = _next_column(task.base, belief, kind, seen)
    return belief


def loss_given_total(task: AdditionTask) -> float:
    """Loss of the top digit, nats, when only the sum of all 2n operand digits is known.

    A pass over the columns keeps the joint distribution of that total so far and the carry.
    """
    base = task.base
    joint = np.zeros((1, 2))  # P(total so far, carry)
    joint[0, 0] = 1
    pair = (base - np.abs(np.arange(2 * base - 1) - (base - 1))) / base**2  # P(s)
    for _ in range(task.n_digits):
        longer = np.zeros((len(joint) + 2 * base - 2, 2))
        for s, weight in enumerate(pair):
            for carry in (0, 1):
                out = int(s + carry >= base)
                longer[s : s + len(joint), out] += weight * joint[:, carry]
        joint = longer
    share = joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)
    return float(-(joint * np.log(np.where(joint > 0, share, 1))).sum())


def second_digit(task: AdditionTask) -> Float[np.ndarray, "top base"]:
    """Distribution of the second answer digit given the top digit (row 0 or 1) and no operand."""
    base, k = task.base, task.n_digits - 1
    p = float(sum(bucket_probabilities(task)[k][1:]))
    x, y = np.meshgrid(np.arange(base), np.arange(base))
    weights = np.zeros((2, base))
    for carry, share in ((0, 1 - p), (1, p)):
        total = x + y + carry
        np.add.at(weights, (total // base, total % base), share)
    return weights / weights.sum(1, keepdims=True)


def uniform_guess(task: AdditionTask) -> float:
    """ln(B + 2), nats: every token of the vocabulary is as likely as any other."""
    return math.log(task.d_vocab)


def any_digit(task: AdditionTask) -> float:
    """ln B, nats: every digit is as likely as any other."""
    return math.log(task.base)


def entropy(p: float | Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Entropy of a choice between two with probabilities p and 1 - p, nats."""
    return entr(p) + entr(1 - np.asarray(p, dtype=float))


# ------------------------------------------------------------------------ one column
def _next_column(base: int, belief: CarryBelief, kind: str, seen: bool) -> CarryBelief:
    """From the carry into a column to the one out of it; ``seen``: its answer digit is visible."""
    nine = Fraction(1, base)  # P(s = B - 1)
    make = Fraction(base - 1, 2 * base)  # P(s ≥ B) = P(s < B - 1)
    yes, no = (Fraction(1), 1), (Fraction(0), 1)
    parts: dict[tuple[Fraction, int], Fraction] = defaultdict(Fraction)
    if kind == "pair" and seen:
        parts[yes] = make + nine * belief.mean
        parts[no] = make + nine * (1 - belief.mean)
    elif kind == "pair" or (kind == "one" and seen):
        # With a digit seen: the answer digit is below, above or equal to the operand's.
        parts[yes] = make
        parts[no] = make
        for part, weight in belief.parts.items():
            parts[part] += nine * weight
    elif kind == "one" or seen:
        # d + (q + j)/N for all digits d and j < N is q + j' over N, with j' < B · N.
        for (q, size), weight in belief.parts.items():
            parts[q, size * base] += weight
    else:
        for p, weight in belief.values():
            parts[make + nine * p, 1] += weight
    return CarryBelief(parts)


def _given_top(base: int, p: float, own: str, above: int) -> float:
    """Loss of a digit below ``above`` visible columns and the top digit, when P(c_k = 1) = p."""
    a = np.arange(base)
    n = base**above
    if own == "pair":
        # Only a sum of B - 1 lets the visible digits, which depend on c_(k+1), tell about c_k.
        nine = np.diag([1 - p, p])  # P(digit B - 1 or 0, carry out 0 or 1)
        return (1 - 1 / base) * float(entropy(p)) + _entropy_given_top(nine, n) / base
    if own == "one":
        overs = [((1 - p) * (a < d) + p * (a <= d)) / base for d in range(base)]
        losses = [_entropy_given_top(np.stack([1 / base - o, o], 1), n) for o in overs]
        return math.fsum(losses) / base
    over = ((1 - p) * (base - 1 - a) + p * (base - a)) / base**2
    return _entropy_given_top(np.stack([1 / base - over, over], 1), n)


# --------------------------------------------------------------- entropies and sums
def _mean_entropy(belief: CarryBelief) -> float:
    """Mean entropy of the carry."""
    total = 0.0
    for (q, size), weight in belief.parts.items():
        # From either end to the middle, so that the terms become smooth.
        half = (size + 1) // 2
        ends = 0.0
        for end, count in ((float(q), half), (float(1 - q), size - half)):
            ends += _sum(partial(_entropy_of_part, size=size, end=end), count)
        total += float(weight) * ends / size
    return total


def _entropy_of_part(j: Float[np.ndarray, " j"], size: int, end: float) -> Float[np.ndarray, " j"]:
    return entropy((j + end) / size)


def _entropy_given_top(joint: Float[np.ndarray, "digit 2"], n: int) -> float:
    """Mean entropy of a digit given V, from P(digit, carry out); n = B^m for m columns above."""
    # Few digits differ. A probability below 0 is one of 0, rounded.
    rows, times = np.unique(np.maximum(joint, 0.0), axis=0, return_counts=True)

    def terms(u: Float[np.ndarray, " v"]) -> Float[np.ndarray, " v"]:
        low, high = u / n / n, (u + 1) / n / n
        total = np.zeros_like(u)
        for g0, g1 in ((high, low), (low, high)):
            digit = rows[:, 0, None] * g0 + rows[:, 1, None] * g1  # (row, v)
            total += times @ entr(digit) - entr(times @ digit)
        return total

    return _sum(terms, n)


def _sum(f: Callable[[Float[np.ndarray, " j"]], Float[np.ndarray, " j"]], stop: int) -> float:
    """Sum of f over 0 … stop - 1, for an f that is smooth on a logarithmic scale from TERMS on."""
    edge = min(stop, TERMS)
    total = math.fsum(f(np.arange(edge, dtype=float)))
    if edge == stop:
        return total
    # Euler-Maclaurin from edge to stop; the integral in log u, over pieces of one e-fold with 24
    # nodes each.
    ends = np.linspace(math.log(edge), math.log(stop), math.ceil(math.log(stop / edge)) + 1)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    half = (ends[1:] - ends[:-1])[:, None] / 2
    u = np.exp((ends[1:] + ends[:-1])[:, None] / 2 + half * nodes)  # (piece, node)
    integral = math.fsum((f(u.ravel()).reshape(u.shape) * u * weights * half).ravel())
    limits = np.array([edge, stop], dtype=float)
    values = f(limits)
    slope = (f(limits * (1 + 1e-4)) - f(limits * (1 - 1e-4))) / (2e-4 * limits)
    return total + integral + (values[0] - values[1]) / 2 + (slope[1] - slope[0]) / 12

"""How well single-operand evidence can be combined: the best product of experts for an answer
digit.

One expert knows the operand digit a of the column, the other b. Each gives every answer digit c a
score, and the prediction is the normalised product: log p(c | a, b) = f(a, c) + g(b, c) + const(a,
b), a product of experts (Hinton 2002). No term sees a and b together. The expected loss is convex
in the scores f and g, so its infimum can be found numerically; scores may grow without bound on the
way.

Two facts frame what it can be.

- Without any word about the carry out of the column, the best is ln B: the experts learn nothing.
  Adding 1 mod B to a and c, or to b and c, leaves the problem the same. So, by convexity, do some
  of the best scores: they are constant.
- With the carry out o known, it is as good as knowing the pair. Then c = a + b + (0 or 1) - o · B
  does not wrap round, and -β (a + b + 1/2 - c - o · B)², which leaves just two candidates as β
  grows, has no term in a, b and c together.

Visible answer digits written from the top tell the second-from-top digit its carry out, and the
others little.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from addlib.tasks.addition import AdditionTask
from addlib.theory.loss_levels import Knowledge, any_digit, carry_belief

ONE_BY_ONE = 16
"""So many visible values from either end are solved one by one; those between differ little from
each other.
"""


def expert_loss(
    task: AdditionTask, k: int, below: tuple[str, ...] = (), visible: bool = True
) -> float:
    """Expected loss of the best product of experts for A_k, nats, for uniform operands; to about
    1e-7.

    The scores may depend on all that is known besides the own pair, so only a and b are kept apart.

    Args:
        below, visible: what is known of lower columns and of the answer, as in
            :class:`addlib.theory.loss_levels.Knowledge`.

    Raises:
        ValueError: A_k has no pair, or the knowledge is of columns that aren't there.
    """
    n = task.n_digits
    if not 0 <= k < n:
        raise ValueError(f"k = {k}: the answer digits with a pair of their own are A0 to A{n - 1}")
    if len(below) > k:
        raise ValueError(
            f"below = {below}: A{k} has {k} columns below it; there is none below the units"
        )
    if not (visible and task.answer_order == "msd" and task.carry):
        return any_digit(task)
    belief = carry_belief(task, k, Knowledge("pair", below, visible))
    cases = [(float(p), float(weight)) for p, weight in belief.values()]
    return math.fsum(
        weight * _given_top(task.base, p, task.base ** (n - k - 1)) for p, weight in cases
    )


def best_product(joint: Float[np.ndarray, "a b c"]) -> float:
    """Infimum over f and g of the expected -log p(c | a, b), nats, for any distribution of a, b and
    c.

    Args:
        joint: probabilities; a multiple of them gives the same multiple of the loss.

    Raises:
        ValueError: negative or no probabilities. RuntimeError: the search did not converge.
    """
    from scipy.optimize import minimize

    joint = np.asarray(joint, dtype=float)
    if joint.ndim != 3 or not (joint >= 0).all() or not joint.sum() > 0:
        raise ValueError(f"joint of shape {joint.shape}: must hold probabilities of (a, b, c)")
    total = joint.sum()
    pair, with_a, with_b = joint.sum(2) / total, joint.sum(1) / total, joint.sum(0) / total

    def loss(scores: Float[np.ndarray, " all"]) -> tuple[float, Float[np.ndarray, " all"]]:
        f, g = (
            scores[: with_a.size].reshape(with_a.shape),
            scores[with_a.size :].reshape(with_b.shape),
        )
        sums = f[:, None] + g  # (a, b, c)
        top = sums.max(2, keepdims=True)
        powers = np.exp(sums - top)
        norm = powers.sum(2, keepdims=True)
        expected = (
            (pair * (np.log(norm) + top)[:, :, 0]).sum() - (with_a * f).sum() - (with_b * g).sum()
        )
        predicted = pair[:, :, None] * powers / norm
        return expected, np.concatenate(
            [(predicted.sum(1) - with_a).ravel(), (predicted.sum(0) - with_b).ravel()]
        )

    settings = dict(maxiter=20_000, maxfun=40_000, ftol=1e-14, gtol=1e-9, maxcor=30)
    found = minimize(
        loss, np.zeros(with_a.size + with_b.size), jac=True, method="L-BFGS-B", options=settings
    )
    if np.abs(found.jac).max() > 1e-5:
        raise RuntimeError(f"the best product of experts was not found: {found.message}")
    return float(total * found.fun)


def _given_top(base: int, p: float, n: int) -> float:
    """Loss of a digit under visible digits with n = B^m values, when P(carry in) = p; see
    `addlib.theory.loss_levels`.
    """
    carry_free, carried = _by_carry_out(base, p)

    def at(r: float) -> float:
        return best_product((1 - r) * carry_free + r * carried)

    # Value u from either end weighs (2u + 1)/n², and r, the less likely carry's share in it, is
    # u/(2u + 1).
    total = 0.0
    for u in range(min(n, ONE_BY_ONE)):
        r = u / (2 * u + 1)
        total += (2 * u + 1) * (at(r) + at(1 - r))
    if n > ONE_BY_ONE:  # between, r = 1/2 ± 1/(4u + 2), and a parabola will do
        step = 1 / (4 * ONE_BY_ONE + 2)
        middle = at(0.5)
        bend = (at(0.5 - step) + at(0.5 + step) - 2 * middle) / step**2  # of the two ends together
        total += 2 * middle * (n**2 - ONE_BY_ONE**2) + bend / 8 * math.log(n / ONE_BY_ONE)
    return total / n**2


def _by_carry_out(
    base: int, p: float
) -> tuple[Float[np.ndarray, "a b c"], Float[np.ndarray, "a b c"]]:
    """P(a, b, digit) of a column without and with a carry out, when P(carry in) = p."""
    split = np.zeros((2, base, base, base))
    a, b = np.indices((base, base))
    for carry, weight in ((0, 1 - p), (1, p)):
        out, digit = np.divmod(a + b + carry, base)
        split[out, a, b, digit] += weight / base**2
    return split[0], split[1]

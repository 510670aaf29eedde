"""How well evidence on single operands can be combined: the best product of experts for a digit.

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
from addlib.theory.loss_levels import Knowledge, any_digit, carry_belief, check_digit

ONE_BY_ONE = 16
"""So many visible values from either end are solved one by one; those between differ little."""


def expert_loss(
    task: AdditionTask, k: int, below: tuple[str, ...] = (), visible: bool = True
) -> float:
    """Loss of the best product of experts for A_k, nats, for uniform operands; to about 1e-7.

    The scores may depend on all that is known besides the own pair, so only a and b are kept apart.

    Args:
        below, visible: what is known of lower columns and of the answer, as in
            :class:`addlib.theory.loss_levels.Knowledge`.

    Raises:
        ValueError: A_k has no pair, or the knowledge is of columns that aren't there.
    """
    check_digit(task, k, below)
    n = task.n_digits
    if k == n:
        raise ValueError(f"k = {k}: the top digit A{n} has no pair of its own")
    if not (visible and task.answer_order == "msd" and task.carry):
        return any_digit(task)
    belief = carry_belief(task, k, Knowledge("pair", below, visible))
    cases = [(float(p), float(weight)) for p, weight in belief.values()]
    return math.fsum(
        weight * _given_top(task.base, p, task.base ** (n - k - 1)) for p, weight in cases
    )


def best_product(joint: Float[np.ndarray, "a b c"]) -> float:
    """Infimum over f and g of the expected -log p(c | a, b), nats, for any distribution.

    Args:
        joint: probabilities; a multiple of them gives the same multiple of the loss.

    Raises:
        RuntimeError: the search did not converge.
    """
    from scipy.optimize import minimize

    total = joint.sum()
    pair, with_a, with_b = joint.sum(2) / total, joint.sum(1) / total, joint.sum(0) / total

    def loss(scores: Float[np.ndarray, " all"]) -> tuple[float, Float[np.ndarray, " all"]]:
        f = scores[: with_a.size].reshape(with_a.shape)
        g = scores[with_a.size :].reshape(with_b.shape)
        sums = f[:, None] + g  # (a, b, c)
        top = sums.max(2, keepdims=True)
        powers = np.exp(sums - top)
        norm = powers.sum(2, keepdims=True)
        log_norm = (pair * (np.log(norm) + top)[:, :, 0]).sum()
        predicted = pair[:, :, None] * powers / norm
        slope = [(predicted.sum(1) - with_a).ravel(), (predicted.sum(0) - with_b).ravel()]
        return log_norm - (with_a * f).sum() - (with_b * g).sum(), np.concatenate(slope)

    start = np.zeros(with_a.size + with_b.size)
    best = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        options=dict(maxiter=20_000, maxfun=40_000, ftol=1e-14, gtol=1e-9, maxcor=30),
    )
    if np.abs(best.jac).max() > 1e-5:
        raise RuntimeError(f"the best product of experts was not found: {best.message}")
    return float(total * best.fun)


def _given_top(base: int, p: float, n: int) -> float:
    """Loss of a digit under visible digits with n = B^m values, when P(carry in) = p.

    Value u from either end weighs (2u + 1)/n², and r, the less likely carry's share in it, is
    u/(2u + 1): see :mod:`addlib.theory.loss_levels`.
    """
    carry_free, carried = _by_carry_out(base, p)

    def loss_at(r: float) -> float:
        return best_product((1 - r) * carry_free + r * carried)

    total = 0.0
    for u in range(min(n, ONE_BY_ONE)):
        r = u / (2 * u + 1)
        total += (2 * u + 1) * (loss_at(r) + loss_at(1 - r))
    if n > ONE_BY_ONE:  # between, r = 1/2 ± 1/(4u + 2), and a parabola will do
        step = 1 / (4 * ONE_BY_ONE + 2)
        middle = loss_at(0.5)
        # of the two ends together
        bend = (loss_at(0.5 - step) + loss_at(0.5 + step) - 2 * middle) / step**2
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

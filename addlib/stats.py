"""Numbers with their intervals, and the loss of a right answer."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def answer_nll(
    logits: Float[Tensor, "*batch output"], answer: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """-log p of each right answer, in nats; the softmax is taken in float64."""
    rows = logits.double().flatten(0, -2)
    return F.cross_entropy(rows, answer.flatten(), reduction="none").view(answer.shape)


def bootstrap_interval(
    values: Float[Tensor, " sample"], draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a mean: how far it moves when the sample is drawn again.

    It is the percentile bootstrap interval (Efron 1979), widened to hold the mean itself.

    Raises:
        ValueError: an empty sample.
    """
    _, (low, high) = bootstrap_of(torch.sum, values, draws, seed)
    mean = values.mean().item()
    return min(low, mean), max(high, mean)


def keeps_sign(
    values: Float[Tensor, "member sample"], guesses: Float[Tensor, " member"], seed: int = 0
) -> list[bool]:
    """Whether a mean has the sign that was guessed, with a 95 % interval that leaves out 0."""
    spans = [bootstrap_interval(of, seed=seed) for of in values]
    signs = guesses.sign().tolist()
    return [
        min(low * sign, high * sign) > 0 for (low, high), sign in zip(spans, signs, strict=True)
    ]


def bootstrap_of(
    statistic: Callable[[Tensor], Tensor],
    values: Float[Tensor, "sample ..."],
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, tuple[float, float]]:
    """What a function makes of the means over a sample, and its 95 % bootstrap interval.

    For the smallest of several means it is the interval of the smallest, whichever cell that is in
    each draw: ``bootstrap_of(torch.min, values)``. Widened to hold the value itself.

    Args:
        statistic: from the means, one for each cell, to one number.
        values: what is drawn again are its rows, all cells of a row together.

    Raises:
        ValueError: an empty sample.
    """
    if len(values) == 0:
        raise ValueError("0 values: a mean needs at least one")
    values = values.cpu().double()  # many small draws, from the CPU's generator

    def of(rows: Int[Tensor, " sample"]) -> float:
        return float(statistic(values[rows].mean(0)))

    interval = resampled_interval(of, len(values), draws, seed)
    return float(statistic(values.mean(0))), interval


def resampled_interval(
    statistic: Callable[[Int[Tensor, " sample"]], float],
    count: int,
    draws: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of any statistic: how far it moves when the sample is drawn again.

    As :func:`bootstrap_interval`, which is for means.

    Args:
        statistic: of the members of a sample with these numbers, which may come several times.
        count: members of the sample.

    Raises:
        ValueError: an empty sample.
    """
    if count < 1:
        raise ValueError(f"{count} members: a statistic needs at least one")
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(count, (count,), generator=generator) for _ in range(draws)]
    values = torch.tensor([statistic(rows) for rows in drawn], dtype=torch.float64)
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    whole = statistic(torch.arange(count))
    return min(low, whole), max(high, whole)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927): 92 of 100 → (0.850, 0.959).

    Raises:
        ValueError: counts that are no proportion.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"{successes} successes in {trials} trials: must be 0 ≤ successes ≤ trials, trials ≥ 1"
        )
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def extreme_share(
    hits: Float[Tensor, "cells sample"],
    among: Shaped[Tensor, "cells sample"],
    extreme: Callable[[Tensor], Tensor] = torch.amin,
    draws: int = 500,
    seed: int = 0,
) -> tuple[float, tuple[float, float]]:
    """The smallest of several shares, and its own 95 % interval: not that of the cell it fell on.

    The sample is drawn again as a whole, and each time the smallest share is taken.

    Args:
        hits: what is averaged, by cell. among: which members count in a cell, or their weights.
        extreme: ``torch.amax`` for the largest share.

    Raises:
        ValueError: a cell in which no member counts.
    """
    if not among.bool().any(1).all():
        raise ValueError("a cell has no member that counts: leave it out")
    weight = among.double()
    value = hits.double() * weight

    def statistic(rows: Tensor) -> float:
        return extreme(value[:, rows].sum(1) / weight[:, rows].sum(1).clamp(min=1e-300)).item()

    count = hits.shape[1]
    interval = resampled_interval(statistic, count, draws, seed)
    return statistic(torch.arange(count)), interval


def d_prime(hits: int, signals: int, false_alarms: int, noises: int) -> float:
    """How far apart two kinds lie for an observer, in standard deviations of its noise.

    d' = z(hit rate) - z(false alarm rate), of Green & Swets (1966). The rates are (count + ½) /
    (n + 1), so it stays finite where all or none are called. An observer that always says the same
    has 0 where there are as many of both.

    Raises:
        ValueError: counts that are no proportion.
    """
    from scipy.stats import norm

    if not (0 <= hits <= signals and 0 <= false_alarms <= noises):
        raise ValueError(f"{hits} of {signals}, {false_alarms} of {noises}: are no proportions")
    rates = ((hits + 0.5) / (signals + 1), (false_alarms + 0.5) / (noises + 1))
    return float(norm.ppf(rates[0]) - norm.ppf(rates[1]))

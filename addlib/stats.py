"""How well a model answers: many questions in bounded memory, split by class, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    pass


def bootstrap_interval(
    values: Float[Tensor, " sample"], confidence: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron 1979): how far it moves when the sample is
    drawn again.

    Raises:
        ValueError: an empty sample, or a confidence outside (0, 1).
    """
    if len(values) == 0 or not 0 < confidence < 1:
        raise ValueError(
            f"{len(values)} values at confidence = {confidence!r}: must be at least 1, and in (0, "
            f"1)"
        )
    generator = torch.Generator().manual_seed(seed)
    means = torch.stack(
        [
            values[torch.randint(len(values), (len(values),), generator=generator)].double().mean()
            for _ in range(draws)
        ]
    )
    low, high = means.quantile(
        torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    )
    return float(low), float(high)


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), e.g. 92 of 100 → (0.850, 0.959).

    Raises:
        ValueError: counts that are no proportion, or a confidence outside (0, 1).
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"{successes} successes in {trials} trials: must be 0 ≤ successes ≤ trials, trials ≥ 1"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence!r}: must be in (0, 1)")
    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)

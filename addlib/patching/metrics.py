"""What a patch is judged by: one number for each prompt, from the logits at its last position."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Metric = Callable[[Float[Tensor, "batch d_vocab"]], Float[Tensor, " batch"]]
"""From the logits at the last position to one number for each prompt, in their order."""


@dataclass(frozen=True)
class LogitDifference:
    """How much one token is preferred to another, prompt by prompt, in logits (nats)."""

    right: Int[Tensor, " batch"]
    wrong: Int[Tensor, " batch"]

    @property
    def tokens(self) -> Int[Tensor, "batch 2"]:
        """The two tokens whose logits are read."""
        return torch.stack([self.right, self.wrong], -1)

    def __call__(self, logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, " batch"]:
        return self.of_two(logits.gather(-1, self.tokens.to(logits.device)))

    @staticmethod
    def of_two(two: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """The difference, from the logits of :attr:`tokens` alone."""
        return two[..., 0] - two[..., 1]


@dataclass(frozen=True)
class Probability:
    """The probability of a token, prompt by prompt, from 0 to 1."""

    token: Int[Tensor, " batch"]

    def __call__(self, logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, " batch"]:
        return logits.softmax(-1).gather(-1, self.token.to(logits.device)[:, None])[:, 0]


@dataclass(frozen=True)
class Rank:
    """How many tokens are preferred to a token, prompt by prompt; 0 is the best. No gradient."""

    token: Int[Tensor, " batch"]

    def __call__(self, logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, " batch"]:
        own = logits.gather(-1, self.token.to(logits.device)[:, None])
        return (logits > own).sum(-1).to(logits.dtype)


def named_metrics(metric: Metric | Mapping[str, Metric], batch: int) -> dict[str, Metric]:
    """Metrics by name; a single one is called "metric", as in TransformerLens.

    Raises:
        ValueError: no metric, or a logit difference for another number of prompts than ``batch``.
    """
    metrics = dict(metric) if isinstance(metric, Mapping) else {"metric": metric}
    if not metrics:
        raise ValueError("metric = {}: name at least one")
    for name, given in metrics.items():
        if isinstance(given, LogitDifference) and given.tokens.shape != (batch, 2):
            raise ValueError(
                f"metric {name!r} is for {len(given.tokens)} prompts: must be for {batch}"
            )
    return metrics


def tokens_read(metrics: Mapping[str, Metric]) -> Int[Tensor, "batch choice"] | None:
    """The tokens whose logits are enough, two for each metric; None: those of all tokens."""
    differences = [metric for metric in metrics.values() if isinstance(metric, LogitDifference)]
    if len(differences) < len(metrics):
        return None
    return torch.cat([difference.tokens for difference in differences], 1)


def measure(
    metrics: Mapping[str, Metric], logits: Float[Tensor, "cell batch d_vocab"]
) -> Float[Tensor, "metric cell batch"]:
    """Each metric of each cell's logits.

    Raises:
        ValueError: a metric that does not give one number for each prompt.
    """
    batch = logits.shape[1]
    values = []
    for name, metric in metrics.items():
        by_cell = torch.stack([metric(of_cell) for of_cell in logits])
        if by_cell.shape != logits.shape[:2]:
            raise ValueError(
                f"metric {name!r} gives shape {tuple(by_cell.shape[1:])}: must be a number for "
                f"each of {batch} prompts"
            )
        values.append(by_cell.to(logits.dtype))
    return torch.stack(values)

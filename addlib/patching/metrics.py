"""What a patch is judged by: one number for each prompt, from the logits at its last position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Metric = Callable[[Float[Tensor, "batch d_vocab"]], Float[Tensor, " batch"]]
"""From the logits at the last position to one number for each prompt, in their order."""


class FewTokens(ABC):
    """A metric that reads the logits of a few tokens, so that no others need be computed."""

    @property
    @abstractmethod
    def tokens(self) -> Int[Tensor, "batch choice"]:
        """The tokens whose logits are read, prompt by prompt."""

    @abstractmethod
    def of_few(self, logits: Float[Tensor, "*cell batch choice"]) -> Float[Tensor, "*cell batch"]:
        """The metric, from the logits of :attr:`tokens` alone."""

    def __call__(self, logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, " batch"]:
        return self.of_few(logits.gather(-1, self.tokens.to(logits.device)))


@dataclass(frozen=True)
class LogitDifference(FewTokens):
    """How much one token is preferred to another, prompt by prompt, in logits (nats)."""

    right: Int[Tensor, " batch"]
    wrong: Int[Tensor, " batch"]

    @property
    def tokens(self) -> Int[Tensor, "batch 2"]:
        return torch.stack([self.right, self.wrong], -1)

    def of_few(self, logits: Float[Tensor, "*cell batch 2"]) -> Float[Tensor, "*cell batch"]:
        return logits[..., 0] - logits[..., 1]


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
        ValueError: no metric, or one of a few tokens for another number of prompts than ``batch``.
    """
    metrics = dict(metric) if isinstance(metric, Mapping) else {"metric": metric}
    if not metrics:
        raise ValueError("metric = {}: name at least one")
    for name, given in metrics.items():
        if isinstance(given, FewTokens) and len(given.tokens) != batch:
            raise ValueError(
                f"metric {name!r} is for {len(given.tokens)} prompts: must be for {batch}"
            )
    return metrics


def all_of_few(metrics: Mapping[str, Metric]) -> list[FewTokens]:
    """The metrics, where each needs the logits of a few tokens only; none where one needs them all."""
    few = [metric for metric in metrics.values() if isinstance(metric, FewTokens)]
    return few if len(few) == len(metrics) else []


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

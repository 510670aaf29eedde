"""Estimates of what patches do, beside exact values: how near, and which cells both name.

Effects are those of the same cells and the same pairs, with the pairs as the last axis. An estimate
is judged by the mean over pairs, and its interval is over pairs drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.patching.summaries import correlation, rank_correlation
from addlib.stats import resampled_interval

EXACT = "exact"
"""The name of the exact effects among the methods."""


@dataclass(frozen=True)
class Agreement:
    """Exact effects and estimates of them.

    Args:
        effects: method → kind of activation → effects; one method is :data:`EXACT`.
    """

    effects: Mapping[str, Mapping[str, Float[Tensor, "*cell pair"]]]

    @property
    def pairings(self) -> list[tuple[str, str]]:
        """Each estimate and each kind that it has."""
        return [(name, kind) for name, of in self.effects.items() if name != EXACT for kind in of]

    def mean(
        self, method: str, kind: str, pairs: Int[Tensor, " pair"] | slice = slice(None)
    ) -> Float[Tensor, " cell"]:
        """Mean effect of each cell over some pairs."""
        return self.effects[method][kind][..., pairs].mean(-1).flatten()

    def fit(
        self, method: str, kind: str, pairs: Int[Tensor, " pair"] | slice = slice(None)
    ) -> float:
        """Correlation of an estimate with exact values, over the cells of a kind."""
        return correlation(*(self.mean(name, kind, pairs) for name in (EXACT, method)))

    def interval(self, method: str, kind: str, seed: int = 0) -> tuple[float, float]:
        """95 % interval of :meth:`fit` over pairs."""
        count = self.effects[method][kind].shape[-1]
        return resampled_interval(partial(self.fit, method, kind), count, seed=seed)

    def lead(
        self,
        better: str,
        than: str,
        kinds: Sequence[str],
        pairs: Int[Tensor, " pair"] | slice = slice(None),
    ) -> float:
        """By how much one estimate is nearer to exact values than another, where that is least."""
        return min(self.fit(better, kind, pairs) - self.fit(than, kind, pairs) for kind in kinds)

    def strongest(self, method: str, kind: str, count: int = 10) -> list[int]:
        """Numbers of the cells of the largest effects, the largest first."""
        sizes = self.mean(method, kind).abs()
        return sizes.argsort(descending=True)[:count].tolist()

    def table(self, seed: int = 0, count: int = 10) -> pd.DataFrame:
        """A row for each kind: correlations with their intervals, and the strongest cells shared."""
        rows = {}
        for kind in self.effects[EXACT]:
            rows[kind] = {"kind": kind, "cells": self.mean(EXACT, kind).numel()}
        for name, kind in self.pairings:
            low, high = self.interval(name, kind, seed)
            both = {*self.strongest(EXACT, kind, count)} & {*self.strongest(name, kind, count)}
            rows[kind][name] = f"{self.fit(name, kind):.2f} ({low:.2f} to {high:.2f})"
            rows[kind][f"{count} strongest, {name}"] = f"{len(both)} of {count}"
        return pd.DataFrame(rows.values()).fillna("–")


def rank_agreement(
    one: Float[Tensor, "layer *cell pair"], other: Float[Tensor, "layer *cell pair"], seed: int = 0
) -> dict[str, float]:
    """How alike two ways to corrupt the same pairs rank cells, and what to hold it against.

    Args:
        one, other: effects of the same cells. seed: of the order that layers are shuffled into.

    Returns:
        rank correlations of mean effects: ``"both"`` ways, over all pairs; ``"same"``, the first way
        on the even pairs and on the odd ones, which is about the most that can be had; ``"across"``,
        the other way on the even pairs and the first on the odd ones; ``"shuffled"``, both ways
        with the layers of one in another order.
    """
    order = torch.randperm(len(one), generator=torch.Generator().manual_seed(seed))
    means = {
        "both": (one, other),
        "same": (one[..., ::2], one[..., 1::2]),
        "across": (other[..., ::2], one[..., 1::2]),
        "shuffled": (one, other[order]),
    }
    return {name: rank_correlation(*(of.mean(-1) for of in two)) for name, two in means.items()}

"""Sweeps in one number: where an effect crosses over, how late it comes, how two sweeps agree."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's correlation of the cells of two sweeps; 0 where one of them is constant."""
    both = torch.stack([one.flatten(), other.flatten()])
    return float(torch.corrcoef(both).nan_to_num()[0, 1])


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's correlation of the cells of two sweeps: of their ranks, equal ones sharing one.

    1 where both put the cells into the same order: ``[1, 2, 9]`` and ``[0, 5, 6]``.
    """
    from scipy.stats import rankdata

    ranks = [torch.from_numpy(rankdata(cells.flatten().cpu())) for cells in (one, other)]
    return correlation(*ranks)


def crossing(curve: Float[Tensor, " layer"], level: float = 0.5) -> float:
    """The first layer above a level, as a share of all layers; 1 if none is.

    Layers are counted from 0: ``[0.1, 0.2, 0.7, 0.9]`` → 0.5.
    """
    above = curve > level
    return float(above.float().argmax()) / len(curve) if above.any() else 1.0


def late_share(effects: Float[Tensor, " layer"]) -> float:
    """The share of the positive effects that comes from the second half of the layers.

    ``[1, −5, 1, 2]`` → 0.75; 0 where no effect is positive.
    """
    positive = effects.clamp(min=0)
    return float(positive[len(positive) // 2 :].sum() / positive.sum().clamp(min=1e-9))


def head_names(layers: int, heads: int, sign: str = "H") -> list[str]:
    """Names of all heads, the first layer's first: ``L0H0``, ``L0H1``, …"""
    return [f"L{layer}{sign}{head}" for layer in range(layers) for head in range(heads)]

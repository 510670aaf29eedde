"""Sweeps in one number: where an effect crosses over, how late it comes, how two sweeps agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from addlib.patching.groups import thirds
from addlib.stats import bootstrap_interval


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


def by_third(
    x: Float[Tensor, "layer head"], y: Float[Tensor, "layer head"], names: Sequence[str]
) -> tuple[dict[str, Float[np.ndarray, "point 2"]], dict[str, np.ndarray]]:
    """Points of heads by the third of the layers that they are in, and their names, for a plot.

    Args:
        x, y: one number for each head. names: in the order of :func:`head_names`.
    """
    layers, heads = x.shape
    points = torch.stack([x.flatten(), y.flatten()], 1).cpu().numpy()
    layer = np.arange(layers).repeat(heads)
    parts = ("first third of the layers", "middle", "last third")
    chosen = {
        part: np.isin(layer, third) for part, third in zip(parts, thirds(layers), strict=True)
    }
    return (
        {part: points[where] for part, where in chosen.items()},
        {part: np.array(names)[where] for part, where in chosen.items()},
    )


def leads_over_alike(
    own: Float[Tensor, "*cell member"],
    twin: Float[Tensor, "*cell member"],
    labels: Shaped[Tensor, " member"],
) -> Float[Tensor, " compared"]:
    """How much more a member's cells correlate with its twin's than with those of others alike.

    Others alike are the members of the same label; who has none is left out. Of nobody: one 0.
    """
    leads = []
    for i in range(len(labels)):
        alike = [j for j in (labels == labels[i]).nonzero()[:, 0].tolist() if j != i]
        others = [correlation(own[..., i], own[..., j]) for j in alike]
        if others:
            leads.append(correlation(own[..., i], twin[..., i]) - sum(others) / len(others))
    return own.new_tensor(leads or [0.0])


def of_means(
    statistic: Callable[..., float], *effects: Float[Tensor, "*cell pair"]
) -> Callable[..., float]:
    """A statistic of the cells' mean effects, as a function of the pairs that they are means over.

    Args:
        statistic: of the means of each of ``effects``: :func:`correlation` of two, say.
    """

    def over(pairs: Int[Tensor, " pair"] | slice = slice(None)) -> float:
        return statistic(*(of[..., pairs].mean(-1) for of in effects))

    return over


def others_of_layers(named: Sequence[int], layers: int, heads: int, seed: int = 0) -> list[int]:
    """For each head another one of its layer, drawn, none of them twice; fewer where none is left.

    Args:
        named: numbers of heads, the first layer's first.
    """
    order = np.random.default_rng(seed).permutation(layers * heads).tolist()
    others: list[int] = []
    for head in named:
        of_layer = (i for i in order if i // heads == head // heads)
        others += [i for i in of_layer if i not in (*named, *others)][:1]
    return others


@dataclass(frozen=True)
class InTasks:
    """What the same cells do in several tasks, pair by pair; the first task is the one compared with.

    Args:
        effects: task → effects of the same cells.
    """

    effects: Mapping[str, Float[Tensor, "cell pair"]]

    def beside(
        self, task: str, pairs: Int[Tensor, " pair"] | slice = slice(None), least: float = 0.0
    ) -> float:
        """Summed mean effects in a task, as a share of those in the first one.

        Args:
            least: lower means count as this one; minus infinity counts all with their signs.
        """
        base = next(iter(self.effects))
        own, other = (
            self.effects[name][:, pairs].mean(-1).clamp(min=least).sum() for name in (task, base)
        )
        return float(own / other.clamp(min=1e-9))

    def sums(self, seed: int = 0) -> dict[str, str]:
        """By task the cells' summed effects with their signs, and their 95 % interval over pairs."""
        found = {}
        for task, of in self.effects.items():
            each = of.sum(0)
            low, high = bootstrap_interval(each, seed=seed)
            found[task] = f"{each.mean():z.0%} ({low:z.0%} to {high:z.0%})"
        return found

    def cells(self, which: slice) -> InTasks:
        """Some of the cells."""
        return InTasks({task: of[which] for task, of in self.effects.items()})

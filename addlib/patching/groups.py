"""Exact patches of the heads of some groups: their outputs, their patterns, and the group's value.

Under grouped-query attention the heads of a group share keys and values. Patching every head of a
language model costs minutes a pair; an estimate from other pairs says which groups to try.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.patching.metrics import Metric
from addlib.patching.sweep import Patcher

Group = tuple[int, int]
"""Layer and group, both counted from 0."""


def thirds(layers: int) -> list[range]:
    """The first, middle and last layers: 24 → 0 to 7, 8 to 15, 16 to 23; of two, the middle is empty."""
    third = max(1, layers // 3)
    return [range(third), range(third, layers - third), range(layers - third, layers)]


def strongest_groups(
    sizes: Float[Tensor, "layer head"], groups: int, count: int = 4
) -> list[Group]:
    """The groups whose heads have the largest sizes, so many in each third of the layers.

    Args:
        sizes: of the heads' effects, as estimated.
        groups: in a layer.
    """
    of_group = sizes.unflatten(1, (groups, -1)).sum(-1)
    order = [divmod(i, groups) for i in of_group.flatten().argsort(descending=True).tolist()]
    strongest: list[Group] = []
    for part in thirds(len(sizes)):
        strongest += [group for group in order if group[0] in part][:count]
    return strongest


@dataclass(frozen=True)
class GroupPatches:
    """What patches of some groups and of each of their heads restore, pair by pair."""

    layer: Int[Tensor, " group"]
    number: Int[Tensor, " group"]  # of the group in its layer
    z: Float[Tensor, "group head pair"]
    pattern: Float[Tensor, "group head pair"]
    v: Float[Tensor, "group pair"]

    @classmethod
    def of(cls, patcher: Patcher, metric: Metric, which: Sequence[Group]) -> GroupPatches:
        """Patch these groups at all positions, one kind and one head at a time.

        Groups that the model lacks are left out, and none is tried twice. Results are on the CPU.
        """
        cfg = patcher.model.cfg
        groups = int(cfg.n_key_value_heads or cfg.n_heads)
        shared = int(cfg.n_heads) // groups
        there = [g for g in dict.fromkeys(which) if g[0] < cfg.n_layers and g[1] < groups]
        heads = [(layer, group * shared + i) for layer, group in there for i in range(shared)]
        cells = {
            "z": pd.DataFrame(heads, columns=["layer", "head"]),
            "pattern": pd.DataFrame(heads, columns=["layer", "head_index"]),
            "v": pd.DataFrame(there, columns=["layer", "head"]),
        }
        found = {kind: patcher.restored(kind, metric, index_df=of) for kind, of in cells.items()}
        layer, number = torch.tensor(there).T
        of_heads = {kind: found[kind].unflatten(0, (-1, shared)) for kind in ("z", "pattern")}
        return cls(layer, number, of_heads["z"], of_heads["pattern"], found["v"])

    def first(self, count: int) -> GroupPatches:
        """The first groups alone."""
        return GroupPatches(**{name: values[:count] for name, values in vars(self).items()})

    def rank(
        self, layer: int, head: int, pairs: Int[Tensor, " pair"] | slice = slice(None)
    ) -> float:
        """The place of a head's output among those of all heads tried, the largest effect first.

        By size of the mean over pairs; a head that was not tried comes after all others.
        """
        sizes = self.z[..., pairs].mean(-1).abs()  # (group, head)
        shared = sizes.shape[1]
        own = (self.layer == layer) & (self.number == head // shared)
        if not own.any():
            return float(1 + sizes.numel())
        return float(1 + (sizes > sizes[own, head % shared]).sum())

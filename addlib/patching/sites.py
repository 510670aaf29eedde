"""What to patch: kinds of activations, the cells of a sweep, and checks of prompts and models."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.patching.metrics import Metric

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.patching import PatchingResult


RESIDUAL = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
}
"""Kinds without heads: TransformerLens's hook points within a layer."""


HEADS = {
    "z": "attn.hook_z",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
}
"""Kinds by head. Under grouped-query attention k and v have one head for several of the others."""


KINDS = RESIDUAL | HEADS
"""All kinds of activation that can be patched, by the names of TransformerLens's sweeps."""

SPREADS = ("resid_pre", "k", "v")
"""Kinds that act on later positions within their own layer; the others only on their own one."""


POSITION_AXES = ("pos", "dest_pos")
HEAD_AXES = ("head", "head_index")
"""TransformerLens's names of the axes of a sweep, besides ``layer``."""


@dataclass(frozen=True)
class Patches:
    """Replacements to carry out together, in one layer and of one kind."""

    prompt: Int[Tensor, " patch"]
    position: Int[Tensor, " patch"]  # -1: all
    head: Int[Tensor, " patch"]  # 0 for kinds without heads
    start: Int[Tensor, " patch"]  # the first position that changes

    def __len__(self) -> int:
        return len(self.prompt)

    def at(self, n_positions: int) -> Bool[Tensor, "patch position"]:
        """Where the activation is replaced."""
        position = torch.arange(n_positions, device=self.prompt.device)
        return (self.position[:, None] == position) | (self.position[:, None] < 0)


@dataclass(frozen=True)
class LayerCells:
    """The cells of one layer: what each replaces, and for which prompts that can matter."""

    position: Int[Tensor, " cell"]  # -1: all
    head: Int[Tensor, " cell"]  # 0 for kinds without heads
    active: Bool[Tensor, "cell batch"]
    start: Int[Tensor, "cell batch"]  # the first position that changes

    @classmethod
    def of(cls, index: pd.DataFrame, differs: Bool[Tensor, "batch position head"]) -> LayerCells:
        """Cells from their rows of a sweep's index, with the activations that can matter."""
        position = _column(index, POSITION_AXES, -1).to(differs.device)
        head = _column(index, HEAD_AXES, 0).to(differs.device)
        if is_by_position(index):
            active = differs[:, position, head].T
            return cls(position, head, active, position[:, None].expand_as(active))
        active = differs.any(1)[:, head].T
        return cls(position, head, active, differs.long().argmax(1)[:, head].T)

    def to_run(self) -> Int[Tensor, " cell"]:
        """Cells that matter for any prompt, in the order of the first position that changes."""
        start = torch.where(self.active, self.start, self.start.max() + 1).amin(1)
        order = start.argsort(stable=True)
        return order[self.active.any(1)[order]]

    def patches(self, cell: Int[Tensor, " patch"], prompt: Int[Tensor, " patch"]) -> Patches:
        """The replacements of some cells for some prompts."""
        return Patches(prompt, self.position[cell], self.head[cell], self.start[cell, prompt])


def _column(index: pd.DataFrame, names: Sequence[str], missing: int) -> Int[Tensor, " cell"]:
    """The column of an index that has one of these names, or else one of ``missing``."""
    for name in names:
        if name in index:
            return torch.tensor(index[name].to_numpy())
    return torch.full((len(index),), missing)


def is_by_position(index: pd.DataFrame) -> bool:
    """Whether the cells of an index are at one position each."""
    return any(name in index for name in POSITION_AXES)


def axes_of(kind: str, by_position: bool) -> list[str]:
    """The axes of a sweep, as TransformerLens names them."""
    if kind in RESIDUAL:
        return ["layer", "pos"] if by_position else ["layer"]
    if kind == "pattern":
        return ["layer", "head_index", "dest_pos"] if by_position else ["layer", "head_index"]
    return ["layer", "pos", "head"] if by_position else ["layer", "head"]


def all_cells(
    kind: str, by_position: bool, layers: Sequence[int], n_positions: int, n_heads: int
) -> pd.DataFrame:
    """The cells of a whole sweep, a row each, in the order of its axes."""
    axes = axes_of(kind, by_position)
    lengths = {"layer": layers, "pos": range(n_positions), "dest_pos": range(n_positions)}
    cells = itertools.product(*(lengths.get(axis, range(n_heads)) for axis in axes))
    return pd.DataFrame(cells, columns=axes)


def named_cells(index_df: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """The cells of a sweep that were asked for, in their order.

    Raises:
        ValueError: columns other than the sweep's axes, or a cell that it does not have.
    """
    if set(index_df) != set(every):
        raise ValueError(
            f"index_df has columns {', '.join(map(str, index_df))}: a row for each cell, with "
            f"{', '.join(map(str, every))}"
        )
    known = set(every.itertuples(index=False, name=None))
    for cell in index_df[list(every)].itertuples(index=False, name=None):
        if cell not in known:
            raise ValueError(f"index_df: there is no cell {dict(zip(every, cell, strict=True))}")
    return index_df.reset_index(drop=True)


def as_result(
    values: Float[Tensor, "metric cell batch"],
    baseline: Float[Tensor, "metric batch"],
    index: pd.DataFrame,
    axes: list[str],
    metric: Metric | Mapping[str, Metric],
) -> PatchingResult:
    """TransformerLens's result of a sweep, on the CPU.

    Args:
        values, baseline: of all metrics.
        index: the cells, a row each.
        axes: of a whole sweep, in whose order the cells stand; none for cells that were named.
        metric: what the sweep was asked for, one or several by name.
    """
    from transformer_lens.patching import PatchingResult

    names = list(metric) if isinstance(metric, Mapping) else None
    several = names is not None
    if axes:
        values = values.unflatten(1, [index[axis].nunique() for axis in axes])
    return PatchingResult(
        values=(values if several else values[0]).cpu(),
        axis_names=axes,
        index_df=index,
        metric_names=names or ["metric"],
        reduced=False,
        baseline=(baseline if several else baseline[0]).cpu(),
        has_metric_axis=several,
    )


def check_prompts(base: Tensor, source: Tensor) -> None:
    """Raises ValueError for prompts that do not pair up."""
    if base.shape != source.shape:
        raise ValueError(
            f"base prompts have shape {tuple(base.shape)}, source prompts {tuple(source.shape)}: "
            f"must come in pairs of the same length, for a position to mean the same in both"
        )


def check_model(model: TransformerBridge) -> None:
    """Raises ValueError for a model in training mode, or with hooks of its own."""
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in training mode, where dropout makes runs differ: call model.eval() "
            "first"
        )
    if any(point.has_hooks() for point in model.hook_dict.values()):
        raise ValueError(
            "the model has hooks, which the runs would not see all: call model.reset_hooks() first"
        )


def check_kind(model: TransformerBridge, kind: str, layers: Sequence[int] | None) -> list[int]:
    """The layers to go through; None: all.

    Raises:
        ValueError: a kind, a hook point or a layer that is not there.
    """
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: must be one of {', '.join(KINDS)}")
    n_layers = int(model.cfg.n_layers)
    layers = list(range(n_layers) if layers is None else layers)
    if not layers or not set(layers) <= set(range(n_layers)):
        raise ValueError(
            f"layers = {layers!r}: this model has layers 0 to {n_layers - 1}; name at least one"
        )
    for layer in layers:
        hook = f"blocks.{layer}.{KINDS[kind]}"
        if hook not in model.hook_dict:
            raise ValueError(f"kind = {kind!r}: this model has no hook point {hook}")
    return layers

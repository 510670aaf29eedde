"""What to patch: kinds of activations, the cells of a sweep, and the checks on what comes in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.patching import PatchingResult


Metric = Callable[[Float[Tensor, "batch d_vocab"]], Float[Tensor, " batch"]]
"""From the logits at the last position to one number for each prompt of the base run, in their
order.
"""


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


POSITION, HEAD = ("pos", "dest_pos"), ("head", "head_index")
"""TransformerLens's names of the axes of a sweep, besides ``layer``."""


SPREADS = ("resid_pre", "k", "v")
"""Kinds that act on later positions within their own layer; the others act there on their own
position only.
"""


@dataclass(frozen=True)
class Patches:
    """Replacements to carry out together, in one layer and of one kind."""

    example: Int[Tensor, " patch"]
    position: Int[Tensor, " patch"]  # -1: all
    head: Int[Tensor, " patch"]  # -1: there are none
    start: Int[Tensor, " patch"]  # the first position that changes

    def __len__(self) -> int:
        return len(self.example)

    def __getitem__(self, index: Any) -> Patches:
        return Patches(*(getattr(self, field.name)[index] for field in fields(self)))

    def at(self, n_positions: int) -> Bool[Tensor, "patch position"]:
        """Where the activation is replaced."""
        here = torch.arange(n_positions, device=self.example.device)
        return (self.position[:, None] == here) | (self.position[:, None] < 0)


@dataclass(frozen=True)
class Cells:
    """The cells of one layer: what each replaces, and for which prompts that can matter."""

    position: Int[Tensor, " cell"]  # -1: all
    head: Int[Tensor, " cell"]
    active: Bool[Tensor, "cell batch"]
    start: Int[Tensor, "cell batch"]  # the first position that changes

    @classmethod
    def of(cls, differs: Bool[Tensor, "batch position head"], by_position: bool) -> Cells:
        """Cells of all positions and heads, or of all heads, in that order."""
        _, positions, heads = differs.shape
        head = torch.arange(heads, device=differs.device)
        if not by_position:
            active = differs.any(1).T
            return cls(torch.full_like(head, -1), head, active, differs.long().argmax(1).T)
        position = torch.arange(positions, device=differs.device).repeat_interleave(heads)
        active = differs.flatten(1).T
        return cls(position, head.repeat(positions), active, position[:, None].expand_as(active))

    def only(self, asked: pd.DataFrame) -> Cells:
        """The same cells, of which only those in the rows asked for can matter."""
        position, head = (
            next((asked[name].tolist() for name in names if name in asked), [without] * len(asked))
            for names, without in ((POSITION, -1), (HEAD, 0))
        )
        wanted = set(zip(position, head, strict=True))
        cells = zip(self.position.tolist(), self.head.tolist(), strict=True)
        kept = torch.tensor([cell in wanted for cell in cells], device=self.active.device)
        return replace(self, active=self.active & kept[:, None])

    def to_run(self) -> Int[Tensor, " cell"]:
        """Cells that can matter for any prompt; those that change similar positions follow each
        other.
        """
        cell = self.active.any(1).nonzero()[:, 0]
        return cell[
            torch.where(self.active, self.start, self.start.max() + 1)[cell]
            .amin(1)
            .argsort(stable=True)
        ]

    def patches(self, cell: Int[Tensor, " patch"], example: Int[Tensor, " patch"]) -> Patches:
        """The replacements of some cells for some prompts."""
        return Patches(example, self.position[cell], self.head[cell], self.start[cell, example])


def as_result(
    kind: str,
    by_position: bool,
    layers: Sequence[int],
    table: Float[Tensor, "metric layer position head batch"],
    baseline: Float[Tensor, "metric batch"],
    metric: Metric | Mapping[str, Metric],
) -> PatchingResult:
    """A sweep's table as TransformerLens's result, with the axes that its sweep of this kind has,
    on the CPU.
    """
    from transformer_lens.patching import PatchingResult

    several = isinstance(metric, Mapping)
    axes = axes_of(kind, by_position)
    if kind in RESIDUAL:
        table = table[:, :, :, 0] if by_position else table[:, :, 0, 0]
    elif not by_position:
        table = table[:, :, 0]
    elif kind == "pattern":
        table = table.transpose(2, 3)
    rows = itertools.product(layers, *(range(count) for count in table.shape[2:-1]))
    return PatchingResult(
        values=(table if several else table[0]).cpu(),
        axis_names=axes,
        index_df=pd.DataFrame(rows, columns=axes),
        metric_names=list(metric) if several else ["metric"],
        reduced=False,
        baseline=(baseline if several else baseline[0]).cpu(),
        has_metric_axis=several,
    )


def axes_of(kind: str, by_position: bool) -> list[str]:
    """The axes of a sweep, as TransformerLens names them."""
    if kind in RESIDUAL:
        return ["layer", "pos"] if by_position else ["layer"]
    if kind == "pattern":
        return ["layer", "head_index", "dest_pos"] if by_position else ["layer", "head_index"]
    return ["layer", "pos", "head"] if by_position else ["layer", "head"]


def of_cells(kind: str, cells: pd.DataFrame) -> tuple[bool, list[int]]:
    """Whether these cells are by position, and their layers. Raises ValueError for columns that are
    not the axes.
    """
    by_position = any(name in cells for name in POSITION)
    axes = axes_of(kind, by_position)
    if set(cells) != set(axes) or len(cells) == 0:
        columns, rows = ", ".join(map(str, cells)), len(cells)
        raise ValueError(
            f"index_df has {rows} rows with columns {columns}: a row for each cell, with "
            f"{', '.join(axes)}"
        )
    return by_position, sorted({int(layer) for layer in cells["layer"]})


def rows_of(result: PatchingResult, cells: pd.DataFrame) -> PatchingResult:
    """The cells named, in their order, along one axis. Raises ValueError for one that the sweep
    does not have.
    """
    names = list(result.index_df)
    known = {
        cell: row for row, cell in enumerate(result.index_df.itertuples(index=False, name=None))
    }
    asked = list(cells[names].itertuples(index=False, name=None))
    if strange := [cell for cell in asked if cell not in known]:
        raise ValueError(f"index_df: there is no cell {dict(zip(names, strange[0], strict=True))}")
    first = int(result.has_metric_axis)
    values = result.values.flatten(first, first + len(names) - 1)
    values = values.index_select(first, torch.tensor([known[cell] for cell in asked]))
    return replace(result, values=values, axis_names=[], index_df=cells.reset_index(drop=True))


def paired(
    base: Any, source: Any
) -> tuple[Int[Tensor, "batch position"], Int[Tensor, "batch position"]]:
    """Both as tensors. Raises ValueError for prompts that cannot be patched into each other."""
    tokens = []
    for name, given in (("base", base), ("source", source)):
        if not isinstance(given, Tensor) and len({len(prompt) for prompt in given}) > 1:
            raise ValueError(
                f"{name}: prompts of different lengths in one batch; sort by length, a Patcher for "
                f"each"
            )
        one = torch.as_tensor(given)
        if one.ndim != 2 or 0 in one.shape or one.is_floating_point():
            raise ValueError(
                f"{name} has shape {tuple(one.shape)}: must be token ids (batch, position), at "
                f"least one"
            )
        tokens.append(one.long())
    (n_base, t_base), (n_source, t_source) = (one.shape for one in tokens)
    if n_base != n_source:
        raise ValueError(f"{n_base} base prompts and {n_source} source prompts: must come in pairs")
    if t_base != t_source:
        raise ValueError(
            f"base prompts have {t_base} tokens, source prompts {t_source}: choose pairs of the "
            f"same length, "
            "for a position to mean the same in both"
        )
    return tokens[0], tokens[1]


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
    """The layers to go through. Raises ValueError for a kind, a hook point or a layer that is not
    there.
    """
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: must be one of {', '.join(KINDS)}")
    n_layers = int(model.cfg.n_layers)
    layers = list(range(n_layers)) if layers is None else list(layers)
    if not layers or not all(0 <= layer < n_layers for layer in layers):
        raise ValueError(
            f"layers = {layers!r}: this model has layers 0 to {n_layers - 1}; name at least one"
        )
    known = model.hook_dict
    for layer in layers:
        if f"blocks.{layer}.{KINDS[kind]}" not in known:
            there = [other for other, hook in KINDS.items() if f"blocks.{layer}.{hook}" in known]
            raise ValueError(
                f"kind = {kind!r}: this model has no hook point blocks.{layer}.{KINDS[kind]}; it "
                f"has {', '.join(there)}"
            )
    return layers

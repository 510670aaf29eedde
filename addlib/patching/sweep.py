"""Activation patching, exactly and fast: which activations carry what makes two prompts end
differently.

A run of one prompt is repeated with one activation taken from the run of another prompt, and a
metric of the logits at the last position tells how far that carries the answer over (Vig et al.
2020; Meng et al. 2022). With the corrupted prompts as base and the clean ones as source this is
denoising; with the two exchanged, noising.

The numbers are those of `transformer_lens.patching`, which runs a whole forward for each cell. Here

1. a run starts at the patched layer, from the base run's residual stream;
2. cells of a layer, and prompts, go through the model together, ``rows`` at a time;
3. only positions from the patched one on are computed: causal attention leaves the others as they
   were (:mod:`addlib.patching.suffix_forward`);
4. where base and source agree, in a shared few-shot prefix above all, nothing is run: the change is
    exactly 0;
5. the last block's outputs, the final norm and the unembedding are computed at the last position
   alone, and for :class:`LogitDifference` two logits of a prompt instead of the whole vocabulary.

Kinds by layer and position: ``resid_pre``, ``resid_mid``, ``attn_out``, ``mlp_out``. Kinds by layer
and head: ``z``, ``q``, ``k``, ``v``, ``pattern``. Under grouped-query attention several query heads
share a key-value head: ``k`` and ``v`` then have fewer heads, and patching one acts on all query
heads of its group.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from addlib.patching.engines import HookEngine, ShortEngine
from addlib.patching.sites import (
    RESIDUAL,
    SPREADS,
    Cells,
    Metric,
    as_result,
    check_kind,
    check_model,
    of_cells,
    paired,
    rows_of,
)
from addlib.patching.suffix_forward import ShortForward, out_of_memory

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.patching import PatchingResult


@dataclass(frozen=True)
class LogitDifference:
    """How much the last position prefers one token to another, prompt by prompt. Unit: logits,
    which are nats.
    """

    right: Int[Tensor, " batch"]
    wrong: Int[Tensor, " batch"]

    @property
    def tokens(self) -> Int[Tensor, "batch 2"]:
        return torch.stack([self.right, self.wrong], -1)

    def __call__(self, logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, " batch"]:
        two = logits.gather(-1, self.tokens.to(logits.device))
        return two[:, 0] - two[:, 1]


class Patcher:
    """Runs of pairs of prompts, ready for sweeps over what to take from one into the other.

    Args:
        model: a TransformerLens bridge in evaluation mode.
        base: tokens of the prompts that are patched.
        source: tokens of the prompts that the activations come from, pair by pair, of the same
            length.
        rows: so many cells × prompts pass through the model together; bounds the memory. Halved,
            with a warning, when memory runs out.
        skip: leave out what cannot change anything. Off only to check that.
        route: ``"short"``, the suffix forward; ``"hooks"``, whole forwards through the bridge's
            hooks, for any architecture; ``"auto"``, the first if it reproduces the model's logits,
            else, with a warning, the second.
        progress: a progress bar for sweeps of more than some seconds.

    Raises:
        ValueError: prompts that do not pair up, rows below 1, an unknown route, a model in training
            mode or with hooks.
        NotImplementedError: ``route="short"`` and a model that it does not fit.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: TransformerBridge,
        base: Int[Tensor, "batch position"],
        source: Int[Tensor, "batch position"],
        rows: int = 128,
        skip: bool = True,
        route: str = "auto",
        progress: bool = True,
    ) -> None:
        base, source = paired(base, source)
        check_model(model)
        if rows < 1:
            raise ValueError(f"rows = {rows!r}: must be at least 1")
        if route not in ("auto", "short", "hooks"):
            raise ValueError(f"route = {route!r}: must be 'auto', 'short' or 'hooks'")
        device = next(model.parameters()).device
        self.model, self.rows, self.skip, self.progress = model, rows, skip, progress
        self.base, self.source = base.to(device), source.to(device)
        # Before the first token that differs all activations agree, whatever the rounding.
        differs = (self.base != self.source).long()
        self.first = (
            torch.where(differs.any(1), differs.argmax(1), base.shape[1])
            if skip
            else 0 * differs[:, 0]
        )
        self.engine: ShortEngine | HookEngine = self._bounded(lambda: self._engine(route))

    def _engine(self, route: str) -> ShortEngine | HookEngine:
        if route != "hooks":
            short = ShortForward(self.model)
            try:
                short.check(self.base)
                first = min(int(self.first.min()), self.base.shape[1] - 1)
                return ShortEngine(short, self.base, self.source, first, self.rows)
            except NotImplementedError as error:
                if route == "short":
                    raise
                warnings.warn(f"{error}: patching through hooks, which is slower", stacklevel=2)
        return HookEngine(self.model, self.base, self.source, self.rows)

    @torch.no_grad()
    def exchanged(self) -> Patcher:
        """The same pairs the other way round: noising where this one denoises. Costs nothing with
        the short forward.
        """
        twin = object.__new__(Patcher)
        twin.__dict__ |= self.__dict__ | {
            "base": self.source,
            "source": self.base,
            "engine": self.engine.exchanged(),
        }
        return twin

    @torch.no_grad()
    def baseline(self, metric: Metric) -> Float[Tensor, " batch"]:
        """The metric of the base run as it is. (`exchanged().baseline(metric)` is that of the
        source run.)
        """
        return self._measure(self.engine.unpatched[None], {"metric": metric})[0, 0].cpu()

    @torch.no_grad()
    def sweep(
        self,
        kind: str,
        metric: Metric | Mapping[str, Metric],
        by_position: bool | None = None,
        layers: Sequence[int] | None = None,
        index_df: pd.DataFrame | None = None,
    ) -> PatchingResult:
        """The metric after each replacement, prompt by prompt, with the unpatched one as baseline.

        Args:
            kind: one of :data:`KINDS`.
            metric: of the logits at the last position, for all prompts of the base run; or several
                by name, which costs one sweep.
            by_position: one position at a time, or all at once; None: the first for kinds without
                heads, the second for kinds with heads.
            layers: which, counted from 0; None: all.
            index_df: these cells alone, as in TransformerLens: one row each, columns named as the
                axes below; ``by_position`` and ``layers`` are then theirs.

        Returns:
            TransformerLens's result type, on the CPU, with axes as there: (layer, pos), (layer,
            head), (layer, pos, head), for patterns (layer, head_index[, dest_pos]), for kinds
            without heads at all positions (layer,). With ``index_df``: one axis, its rows.
            ``effect()``, ``normalized(…)``, ``bootstrap_ci(…)`` and ``permutation_pvalue(…)`` are
            on it.

        Raises:
            ValueError: an unknown kind, a hook point, layer or cell that the model lacks, a metric
                of another shape.
        """
        if index_df is not None:
            by_position, layers = of_cells(kind, index_df)
        layers = check_kind(self.model, kind, layers)
        by_position = kind in RESIDUAL if by_position is None else by_position
        metrics = dict(metric) if isinstance(metric, Mapping) else {"metric": metric}
        baseline = self._measure(self.engine.unpatched[None], metrics)  # (metric, 1, batch)
        cells = [Cells.of(self._differs(kind, layer), by_position) for layer in layers]
        if index_df is not None:
            cells = [
                one.only(index_df[index_df["layer"] == layer])
                for layer, one in zip(layers, cells, strict=True)
            ]
        count = sum(len(one.to_run()) for one in cells)
        with tqdm(
            total=count,
            desc=kind,
            unit="cell",
            delay=3.0,
            mininterval=1.0,
            disable=not self.progress,
        ) as bar:
            values = [
                self._layer(kind, layer, one, metrics, baseline, bar)
                for layer, one in zip(layers, cells, strict=True)
            ]
        shape = (self.base.shape[1] if by_position else 1, -1)
        table = torch.stack(values, 1).unflatten(2, shape)  # (metric, layer, position, head, batch)
        result = as_result(kind, by_position, layers, table, baseline[:, 0], metric)
        return result if index_df is None else rows_of(result, index_df)

    def _differs(self, kind: str, layer: int) -> Bool[Tensor, "batch position head"]:
        """Where a replacement can change anything at all."""
        differs = self.engine.differs(kind, layer)
        if not self.skip:
            return torch.ones_like(differs)
        position = torch.arange(differs.shape[1], device=differs.device)
        reached = position >= self.first[:, None]
        if layer == self.model.cfg.n_layers - 1 and kind not in SPREADS:
            reached &= position == len(position) - 1
        return differs & reached[:, :, None]

    def _layer(
        self,
        kind: str,
        layer: int,
        cells: Cells,
        metrics: Mapping[str, Metric],
        baseline: Tensor,
        bar: tqdm,
    ) -> Float[Tensor, "metric cell batch"]:
        """Metrics of all cells of a layer; the baseline where nothing changes."""
        values = baseline.repeat(1, len(cells.position), 1)
        left = cells.to_run()
        while len(left):
            found = self._bounded(partial(self._group, kind, layer, cells, left, metrics))
            group, left = left[: found.shape[1]], left[found.shape[1] :]
            values[:, group] = torch.where(cells.active[group], found, baseline)
            bar.update(len(group))
        return values

    def _group(
        self,
        kind: str,
        layer: int,
        cells: Cells,
        left: Int[Tensor, " cell"],
        metrics: Mapping[str, Metric],
    ) -> Float[Tensor, "metric cell batch"]:
        """Metrics of the first cells of ``left``: as many as fit into ``rows`` together, at least
        one.
        """
        group = left[: max(1, int((cells.active[left].sum(1).cumsum(0) <= self.rows).sum()))]
        which, example = cells.active[group].nonzero(as_tuple=True)
        patches = cells.patches(group[which], example)
        outcome = self.engine.unpatched.repeat(len(group), 1, 1)
        for part in torch.arange(len(which), device=which.device).split(self.rows):
            outcome[which[part], example[part]] = self.engine.outcome(kind, layer, patches[part])
        return self._measure(outcome, metrics)

    def _measure(
        self, outcome: Tensor, metrics: Mapping[str, Metric]
    ) -> Float[Tensor, "metric cell batch"]:
        """Metrics of whole batches of outcomes, (cell, batch, …)."""
        batch = outcome.shape[1]
        if not metrics:
            raise ValueError("metric = {}: name at least one")
        for name, metric in metrics.items():
            if isinstance(metric, LogitDifference) and metric.tokens.shape != (batch, 2):
                raise ValueError(
                    f"metric {name!r} is for {len(metric.tokens)} prompts: must be for {batch}"
                )
        found = []
        for some in outcome.split(max(1, self.rows // batch)):
            if all(isinstance(metric, LogitDifference) for metric in metrics.values()):
                tokens = torch.cat([metric.tokens for metric in metrics.values()], 1).to(
                    outcome.device
                )
                two = self.engine.logits(some, tokens.expand(len(some), -1, -1)).unflatten(
                    -1, (-1, 2)
                )
                found.append((two[..., 0] - two[..., 1]).movedim(-1, 0))
                continue
            logits = self.engine.logits(some)
            rows = [torch.stack([metric(one) for one in logits]) for metric in metrics.values()]
            for name, row in zip(metrics, rows, strict=True):
                if row.shape != some.shape[:2]:
                    shape = tuple(row.shape[1:])
                    raise ValueError(
                        f"metric {name!r} gives shape {shape}: must be a number for each of "
                        f"{batch} prompts"
                    )
            found.append(torch.stack(rows).to(outcome.dtype))
        return torch.cat(found, 1)

    def _bounded(self, call: Callable[[], Any]) -> Any:
        """``call()``, again with half the rows when memory runs out."""
        while True:
            try:
                return call()
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or self.rows == 1:
                    raise
            self.rows //= 2
            warnings.warn(
                f"out of memory: going on with rows = {self.rows}", RuntimeWarning, stacklevel=2
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

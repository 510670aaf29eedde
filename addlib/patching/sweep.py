"""Activation patching, exactly and fast: which activations make two prompts end differently.

A run of one prompt is repeated with one activation taken from the run of another prompt, and a
metric of the logits at the last position tells how far that carries the answer over (Vig et al.
2020; Meng et al. 2022). With the corrupted prompts as base and the clean ones as source this is
denoising; with the two exchanged, noising.

The numbers are those of `transformer_lens.patching`, which runs a whole forward for each cell. Here

1. a run starts at the patched layer, from the base run's residual stream;
2. cells of a layer, and prompts, go through the model together, ``batch_size`` at a time;
3. only positions from the patched one on are computed: causal attention leaves the others as they
   were (:mod:`addlib.patching.suffix_forward`);
4. where base and source agree, in a shared few-shot prefix above all, nothing is run: the change is
   exactly 0;
5. the last block's outputs, the final norm and the unembedding are computed at the last position
   alone, and where the metrics are :class:`~addlib.patching.metrics.FewTokens` their logits
   instead of the whole vocabulary's.

Kinds by layer and position: ``resid_pre``, ``resid_mid``, ``attn_out``, ``mlp_out``. Kinds by layer
and head: ``z``, ``q``, ``k``, ``v``, ``pattern``. Under grouped-query attention several query heads
share a key-value head: ``k`` and ``v`` then have fewer heads, and patching one acts on all query
heads of its group.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.device import memory_for, with_smaller_batches
from addlib.patching.engines import HookEngine, ShortEngine
from addlib.patching.metrics import Metric, all_of_few, measure, named_metrics
from addlib.patching.sites import (
    RESIDUAL,
    SPREADS,
    LayerCells,
    all_cells,
    as_result,
    axes_of,
    check_kind,
    check_model,
    check_prompts,
    is_by_position,
    named_cells,
)
from addlib.patching.suffix_forward import ShortForward

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.patching import PatchingResult


PROMPTS = "so many prompts at once (give fewer)"
"""What there is no memory for where batches are no help."""


class Patcher:
    """Runs of pairs of prompts, ready for sweeps over what to take from one into the other.

    They go through the suffix forward where it reproduces the model's logits. Else, with a warning,
    they are whole forwards through the bridge's hooks, for any architecture.

    Args:
        model: a TransformerLens bridge in evaluation mode.
        base: tokens of the prompts that are patched.
        source: tokens of the prompts that the activations come from, pair by pair, of the same
            length.
        batch_size: so many cells × prompts pass through the model together, which bounds the
            memory. Halved, with a line that says so, when memory runs out.
        skip: leave out what cannot change anything. Off only to check that.
        noise: added to the embeddings of the base prompts
            (:func:`~addlib.patching.noise.embedding_noise`); base and source may then be the same.

    Raises:
        ValueError: prompts that do not pair up, noise of another shape, a batch size below 1, a
            model in training mode or with hooks.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: TransformerBridge,
        base: Int[Tensor, "batch position"],
        source: Int[Tensor, "batch position"],
        batch_size: int = 128,
        skip: bool = True,
        noise: Float[Tensor, "batch position d_model"] | None = None,
    ) -> None:
        check_model(model)
        check_prompts(base, source)
        if noise is not None and noise.shape[:-1] != base.shape:
            raise ValueError(
                f"noise has shape {tuple(noise.shape)}, base prompts {tuple(base.shape)}: must have "
                f"a vector for each token"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size!r}: must be at least 1")
        self.model = model
        device = next(model.parameters()).device
        self.base = base.to(device)
        self.source = source.to(device)
        self.skip = skip
        self.noise = noise if noise is None else noise.to(device)
        # Before the first token that differs all activations agree, whatever the rounding.
        differs = self.base != self.source
        if self.noise is not None:
            differs = differs | (self.noise != 0).any(-1)
        self.reached = differs.cumsum(1) > 0
        if not skip:
            self.reached = torch.ones_like(self.reached)
        self.engine, self.batch_size = with_smaller_batches(self._engine, batch_size, "prompt")

    def _engine(self, batch_size: int) -> ShortEngine | HookEngine:
        forward = ShortForward(self.model)
        try:
            forward.check(self.base)
        except NotImplementedError as error:
            warnings.warn(f"{error}: patching through hooks, which is slower", stacklevel=2)
            noise = (self.noise, None)
            return HookEngine(self.model, self.base, self.source, batch_size, noise)
        n_shared = int((~self.reached[:, :-1]).all(0).sum())
        return ShortEngine(forward, self.base, self.source, n_shared, batch_size, self.noise)

    @torch.no_grad()
    @memory_for(PROMPTS)
    def exchanged(self) -> Patcher:
        """The same pairs the other way round: noising where this one denoises.

        Costs nothing with the short forward.
        """
        twin = copy.copy(self)
        twin.base = self.source
        twin.source = self.base
        twin.engine = self.engine.exchanged()
        return twin

    @torch.no_grad()
    @memory_for(PROMPTS)
    def baseline(self, metric: Metric) -> Float[Tensor, " batch"]:
        """The metric of the base run, on the CPU; that of the source run is ``exchanged()``'s."""
        metrics = named_metrics(metric, len(self.base))
        return self._measure(self.engine.unpatched[None], metrics, self.batch_size)[0, 0].cpu()

    @torch.no_grad()
    @memory_for(PROMPTS)
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
            kind: one of :data:`~addlib.patching.sites.KINDS`.
            metric: of the logits at the last position, for all prompts of the base run; or several
                by name, which costs one sweep.
            by_position: one position at a time, or all at once; None: the first for kinds without
                heads, the second for kinds with heads.
            layers: which, counted from 0; None: all.
            index_df: these cells alone, as in TransformerLens: one row each, columns named as the
                axes below; ``by_position`` and ``layers`` are then theirs.

        Returns:
            TransformerLens's result type, on the CPU, with its axes: (layer, pos), (layer, head),
            (layer, pos, head), for patterns (layer, head_index[, dest_pos]), for kinds without
            heads at all positions (layer,). With ``index_df``: one axis, its rows. ``effect()``,
            ``normalized(…)``, ``bootstrap_ci(…)`` and ``permutation_pvalue(…)`` are on it.

        Raises:
            ValueError: an unknown kind, a hook point, layer or cell that the model lacks, a metric
                of another shape.
        """
        metrics = named_metrics(metric, len(self.base))
        if by_position is None:
            by_position = kind in RESIDUAL
        if index_df is not None:
            by_position = is_by_position(index_df)
            layers = sorted(set(index_df.get("layer", [])))
        layers = check_kind(self.model, kind, layers)
        every = all_cells(kind, by_position, layers, *self._can_matter(kind, layers[0]).shape[1:])
        index = every if index_df is None else named_cells(index_df, every)
        baseline = self._measure(self.engine.unpatched[None], metrics, self.batch_size)
        values = baseline.repeat(1, len(index), 1)
        for layer in layers:
            of_layer = index[index["layer"] == layer]
            cells = LayerCells.of(of_layer, self._can_matter(kind, layer))
            values[:, of_layer.index.tolist()] = self._layer(kind, layer, cells, metrics, baseline)
        axes = axes_of(kind, by_position) if index_df is None else []
        return as_result(values, baseline[:, 0], index, axes, metric)

    def restored(self, kind: str, metric: Metric, **which: Any) -> Float[Tensor, "*cell batch"]:
        """The share of the source run's metric that each replacement brings back, pair by pair.

        0 is the base run and 1 the source run.

        Args:
            kind, metric, which: as of :meth:`sweep`, of one metric.
        """
        return self.sweep(kind, metric, **which).normalized(self.exchanged().baseline(metric))

    def _can_matter(self, kind: str, layer: int) -> Bool[Tensor, "batch position head"]:
        """Where a replacement can change anything at all."""
        differs = self.engine.differs(kind, layer)
        if not self.skip:
            return torch.ones_like(differs)
        reached = self.reached
        if layer == self.model.cfg.n_layers - 1 and kind not in SPREADS:
            reached = reached.clone()
            reached[:, :-1] = False
        return differs & reached[:, :, None]

    def _layer(
        self,
        kind: str,
        layer: int,
        cells: LayerCells,
        metrics: Mapping[str, Metric],
        baseline: Float[Tensor, "metric 1 batch"],
    ) -> Float[Tensor, "metric cell batch"]:
        """Metrics of all cells of a layer; the baseline where nothing changes."""
        values = baseline.repeat(1, len(cells.position), 1)
        left = cells.to_run()
        while len(left):
            work = partial(self._group, kind, layer, cells, left, metrics)
            patched, self.batch_size = with_smaller_batches(work, self.batch_size, "prompt")
            group = left[: patched.shape[1]]
            values[:, group] = torch.where(cells.active[group], patched, baseline)
            left = left[len(group) :]
        return values

    def _group(
        self,
        kind: str,
        layer: int,
        cells: LayerCells,
        left: Int[Tensor, " cell"],
        metrics: Mapping[str, Metric],
        batch_size: int,
    ) -> Float[Tensor, "metric cell batch"]:
        """Metrics of the first of the cells left: as many as fit into a batch, at least one."""
        n_patches = cells.active[left].sum(1).cumsum(0)
        group = left[: max(1, int((n_patches <= batch_size).sum()))]
        outcome = self.engine.unpatched.repeat(len(group), 1, 1)
        place, prompt = cells.active[group].nonzero(as_tuple=True)
        for batch in torch.arange(len(place), device=place.device).split(batch_size):
            patches = cells.patches(group[place[batch]], prompt[batch])
            outcome[place[batch], prompt[batch]] = self.engine.outcome(kind, layer, patches)
        return self._measure(outcome, metrics, batch_size)

    def _measure(
        self, outcome: Float[Tensor, "cell batch d"], metrics: Mapping[str, Metric], batch_size: int
    ) -> Float[Tensor, "metric cell batch"]:
        """Metrics of what the engine gives at the last position."""
        few = all_of_few(metrics)
        values = []
        for part in outcome.split(max(1, batch_size // outcome.shape[1])):
            if few:
                tokens = [metric.tokens.to(part.device) for metric in few]
                chosen = torch.cat(tokens, 1).expand(len(part), -1, -1)
                logits = self.engine.logits(part, chosen)
                of_each = logits.split([of.shape[1] for of in tokens], -1)
                read = zip(few, of_each, strict=True)
                values.append(torch.stack([metric.of_few(of) for metric, of in read]))
            else:
                values.append(measure(metrics, self.engine.logits(part)))
        return torch.cat(values, 1)

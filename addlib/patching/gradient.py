"""Attribution patching: all cells of a sweep at once, from one gradient, to first order.

The effect of a replacement is estimated as (activation of the source run − that of the base run) ·
gradient of the metric in the base run (Nanda 2023). It costs two forwards and one backward,
whatever the number of cells. The estimate is good where the metric is about linear in the
activation; it is known to miss heads whose attention is saturated and whatever is undone or
replaced by later layers (Kramár et al. 2024), so it is to be read beside exact values.

Gradients come from TransformerLens
(`tools.analysis.attribution_patching.cache_activation_and_gradient`). Prompts of a batch do not see
each other, so one backward from the sum over prompts has each prompt's own gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from addlib.device import memory_for
from addlib.patching.metrics import Metric, measure, named_metrics
from addlib.patching.sites import (
    HEADS,
    KINDS,
    RESIDUAL,
    all_cells,
    as_result,
    axes_of,
    check_kind,
    check_model,
    check_prompts,
)

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.patching import PatchingResult


GRADIENT_AT = {"resid_mid": "hook_attn_out"}
"""Where a gradient is read that is not at the activation's own hook point.

The bridge's ``hook_resid_mid`` is the entrance of the MLP's norm, which the residual connection
goes around: a gradient there is that of the way through the MLP only. What attention adds reaches
everything that resid_mid reaches.
"""


@memory_for("the gradients of so many prompts at once (give fewer)")
def attribution_patch(
    model: TransformerBridge,
    kinds: Sequence[str],
    base: Int[Tensor, "batch position"],
    source: Int[Tensor, "batch position"],
    metric: Metric,
) -> dict[str, PatchingResult]:
    """Estimates of whole sweeps by kind, all from one gradient; ``effect()`` is the estimate.

    Kinds without heads are by layer and position, those by head are patched at all positions. The
    results are on the CPU.

    Args:
        model: a bridge in evaluation mode whose parameters have gradients.
        kinds: what to patch, of :data:`~addlib.patching.sites.KINDS`.
        base, source: tokens, as of :class:`~addlib.patching.sweep.Patcher`.
        metric: differentiable; of the logits at the last position, one number for each prompt.

    Raises:
        ValueError: prompts, a model, a kind or a metric that a sweep refuses, or parameters
            without gradients.
    """
    from transformer_lens.tools.analysis.attribution_patching import cache_activation_and_gradient

    check_model(model)
    check_prompts(base, source)
    metrics = named_metrics(metric, len(base))
    device = next(model.parameters()).device
    activation_at = {}
    gradient_at = {}
    for kind in kinds:
        for layer in check_kind(model, kind, None):
            activation_at[kind, layer] = f"blocks.{layer}.{KINDS[kind]}"
            gradient_at[kind, layer] = f"blocks.{layer}.{GRADIENT_AT.get(kind, KINDS[kind])}"
    measured: list[Tensor] = []

    def total(logits: Tensor) -> Tensor:
        values = measure(metrics, logits[None, :, -1])[0, 0]
        measured.append(values.detach())
        return values.sum()

    # hook_embed comes before everything: without it the first hook point's own gradient would be
    # missing.
    hooks = dict.fromkeys(["hook_embed", *activation_at.values(), *gradient_at.values()])
    of_base = cache_activation_and_gradient(model, base.to(device), total, list(hooks))
    with torch.no_grad():
        of_source = cache_activation_and_gradient(
            model, source.to(device), total, list(activation_at.values()), compute_gradient=False
        )
    baseline = measured[0][None]  # (metric, batch)
    results = {}
    for kind in kinds:
        estimates = []
        for layer in range(model.cfg.n_layers):
            gradient = of_base.gradients[gradient_at[kind, layer]]
            if gradient is None:
                raise ValueError(
                    "no gradients: the model's parameters must have requires_grad=True"
                )
            hook = activation_at[kind, layer]
            change = of_source.activations[hook] - of_base.activations[hook]
            estimate = (change * gradient).sum(-1)
            if kind in HEADS:
                estimate = estimate.sum(2 if kind == "pattern" else 1)
            estimates.append(estimate.T)
        values = baseline + torch.cat(estimates)  # (cell, batch)
        n_cells = len(estimates[0])  # positions, or heads
        by_position = kind in RESIDUAL
        index = all_cells(kind, by_position, range(len(estimates)), n_cells, n_cells)
        axes = axes_of(kind, by_position)
        results[kind] = as_result(values[None], baseline, index, axes, metric)
    return results

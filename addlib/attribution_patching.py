"""Attribution patching: all cells of a sweep at once, from one gradient, to first order.

The effect of a replacement is estimated as (activation of the source run − that of the base run) · gradient of the
metric in the base run (Nanda 2023). It costs two forwards and one backward, whatever the number of cells. The estimate
is good where the metric is about linear in the activation; it is known to miss heads whose attention is saturated and
whatever is undone or replaced by later layers (Kramár et al. 2024), so it is to be read beside exact values.

Gradients come from TransformerLens (`tools.analysis.attribution_patching.cache_activation_and_gradient`). Prompts of a
batch do not see each other, so one backward from the sum over prompts has each prompt's own gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from addlib.patch_cells import KINDS, RESIDUAL, Metric, as_result, check_kind, check_model, paired

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.patching import PatchingResult

GRADIENT_AT = {"resid_mid": "hook_attn_out"}
"""Where a gradient is read that is not at the activation's own hook point.

The bridge's ``hook_resid_mid`` is the entrance of the MLP's norm, which the residual connection goes around: a gradient
there is that of the way through the MLP only. What attention adds reaches everything that resid_mid reaches.
"""


def attribution_patch(
    model: TransformerBridge,
    kind: str,
    base: Int[Tensor, "batch position"],
    source: Int[Tensor, "batch position"],
    metric: Metric,
    by_position: bool | None = None,
    layers: Sequence[int] | None = None,
) -> PatchingResult:
    """What :meth:`addlib.patching.Patcher.sweep` gives, to first order: ``effect()`` is the estimate.

    Args:
        model: a bridge in evaluation mode whose parameters have gradients.
        kind, by_position, layers: as there.
        base, source: as of :class:`addlib.patching.Patcher`.
        metric: differentiable; of the logits at the last position, one number for each prompt.

    Raises:
        ValueError: as there; or gradients are switched off.
    """
    from transformer_lens.tools.analysis.attribution_patching import cache_activation_and_gradient

    base, source = paired(base, source)
    check_model(model)
    layers = check_kind(model, kind, layers)
    by_position = kind in RESIDUAL if by_position is None else by_position
    device = next(model.parameters()).device
    hooks = [f"blocks.{layer}.{KINDS[kind]}" for layer in layers]
    slopes = [f"blocks.{layer}.{GRADIENT_AT.get(kind, KINDS[kind])}" for layer in layers]
    measured: list[Tensor] = []

    def total(logits: Tensor) -> Tensor:
        values = metric(logits[:, -1])
        if values.shape != (len(base),):
            raise ValueError(
                f"metric gives shape {tuple(values.shape)}: must be a number for each of {len(base)} prompts"
            )
        measured.append(values.detach())
        return values.sum()

    # hook_embed comes before everything: without it the first hook point's own gradient would be missing.
    here = cache_activation_and_gradient(model, base.to(device), total, ["hook_embed", *hooks, *slopes])
    with torch.no_grad():
        there = cache_activation_and_gradient(model, source.to(device), total, hooks, compute_gradient=False)
    estimates = []
    for hook, slope in zip(hooks, slopes, strict=True):
        gradient = here.gradients[slope]
        if gradient is None:
            raise ValueError(f"no gradient at {slope}: the model's parameters must have requires_grad=True")
        estimate = ((there.activations[hook] - here.activations[hook]) * gradient).sum(-1)
        if kind == "pattern":
            estimate = estimate.transpose(1, 2)
        estimate = estimate.reshape(*estimate.shape[:2], -1)  # (batch, position, head)
        estimates.append(estimate if by_position else estimate.sum(1, keepdim=True))
    table = torch.stack(estimates).permute(0, 2, 3, 1)[None]  # (metric, layer, position, head, batch)
    return as_result(kind, by_position, layers, table + measured[0], measured[0][None], metric)

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
from itertools import chain
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from addlib.patching.sites import (
    KINDS,
    RESIDUAL,
    Metric,
    as_result,
    check_kind,
    check_model,
    paired,
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


def attribution_patch(
    model: TransformerBridge,
    kind: str,
    base: Int[Tensor, "batch position"],
    source: Int[Tensor, "batch position"],
    metric: Metric,
    by_position: bool | None = None,
    layers: Sequence[int] | None = None,
) -> PatchingResult:
    """What :meth:`addlib.patching.sweep.Patcher.sweep` gives, to first order: ``effect()`` is the
    estimate.

    Args:
        model: a bridge in evaluation mode whose parameters have gradients.
        kind, by_position, layers: as there.
        base, source: as of :class:`addlib.patching.sweep.Patcher`.
        metric: differentiable; of the logits at the last position, one number for each prompt.

    Raises:
        ValueError: as there; or gradients are switched off.
    """
    return attribution_patch_kinds(model, [kind], base, source, metric, by_position, layers)[kind]


def attribution_patch_kinds(
    model: TransformerBridge,
    kinds: Sequence[str],
    base: Int[Tensor, "batch position"],
    source: Int[Tensor, "batch position"],
    metric: Metric,
    by_position: bool | None = None,
    layers: Sequence[int] | None = None,
) -> dict[str, PatchingResult]:
    """:func:`attribution_patch` of several kinds from one gradient; the arguments are those of it.

    Raises:
        ValueError: as there; or no kinds.
    """
    from transformer_lens.tools.analysis.attribution_patching import cache_activation_and_gradient

    base, source = paired(base, source)
    check_model(model)
    if not kinds:
        raise ValueError("kinds = []: name at least one")
    over = {kind: check_kind(model, kind, layers) for kind in kinds}
    device = next(model.parameters()).device
    hooks = {kind: [f"blocks.{layer}.{KINDS[kind]}" for layer in over[kind]] for kind in kinds}
    slopes = {
        kind: [f"blocks.{layer}.{GRADIENT_AT.get(kind, KINDS[kind])}" for layer in over[kind]]
        for kind in kinds
    }
    values = list(chain(*hooks.values()))
    measured: list[Tensor] = []

    def total(logits: Tensor) -> Tensor:
        found = metric(logits[:, -1])
        if found.shape != (len(base),):
            raise ValueError(
                f"metric gives shape {tuple(found.shape)}: must be a number for each of "
                f"{len(base)} prompts"
            )
        measured.append(found.detach())
        return found.sum()

    # hook_embed comes before everything: without it the first hook point's own gradient would be
    # missing.
    here = cache_activation_and_gradient(
        model,
        base.to(device),
        total,
        list(dict.fromkeys(["hook_embed", *values, *chain(*slopes.values())])),
    )
    with torch.no_grad():
        there = cache_activation_and_gradient(
            model, source.to(device), total, values, compute_gradient=False
        )
    results = {}
    for kind in kinds:
        estimates = []
        for hook, slope in zip(hooks[kind], slopes[kind], strict=True):
            gradient = here.gradients[slope]
            if gradient is None:
                raise ValueError(
                    f"no gradient at {slope}: the model's parameters must have requires_grad=True"
                )
            estimate = ((there.activations[hook] - here.activations[hook]) * gradient).sum(-1)
            if kind == "pattern":
                estimate = estimate.transpose(1, 2)
            estimate = estimate.reshape(*estimate.shape[:2], -1)  # (batch, position, head)
            positions = kind in RESIDUAL if by_position is None else by_position
            estimates.append(estimate if positions else estimate.sum(1, keepdim=True))
        table = torch.stack(estimates).permute(0, 2, 3, 1)[
            None
        ]  # (metric, layer, position, head, batch)
        results[kind] = as_result(
            kind, positions, over[kind], table + measured[0], measured[0][None], metric
        )
    return results

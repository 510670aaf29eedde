"""The parts of a one-layer model replaced one after the other by what a chapter says they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.analysis.carry_plane import CarryAxes, CarrySample, logits_after, placed
from addlib.models.attention_tables import AttentionTables

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def replaced(
    sample: CarrySample,
    tables: AttentionTables,
    axes: CarryAxes,
    columns: Sequence[int],
    points: Float[Tensor, "batch 2"],
    told: Float[Tensor, "batch 2"],
    partner: Int[Tensor, " batch"],
) -> dict[str, Float[Tensor, "batch d_model"]]:
    """Residual streams before the MLP with parts replaced one after the other, by what is replaced.

    Args:
        columns: whose pair each head looks at, where attention goes by the rule.
        points: where in the plane tables put each sum. told: where the program's call puts it.
        partner: the sum from which each takes what is resampled.
    """
    own = (axes.own @ axes.plane)[sample.own]
    by_rule = tables.by_rule(columns)(sample.questions)
    other = sample.resid_mid[partner]
    return {
        "none": sample.resid_mid,
        "attention by the rule": by_rule,
        "and the point by tables": placed(by_rule, own + points, axes.plane),
        "and the carry by the program": placed(by_rule, own + told, axes.plane),
        "all but the tables' point, resampled": placed(other, own + points, axes.plane),
        "everything, resampled": other,
    }


class Outcome(NamedTuple):
    """What the rest of the network makes of some residual streams."""

    loss: float
    right: float
    unchanged: Bool[Tensor, " batch"]


def outcome(
    model: TransformerBridge, sample: CarrySample, resid_mid: Float[Tensor, "batch d_model"]
) -> Outcome:
    """Mean loss in nats, share of right digits, and where the digit is the sample's own."""
    truth = sample.questions.answer[:, sample.k]
    logits = logits_after(model, resid_mid).to(truth.device)
    digits = logits.argmax(-1)
    right = (digits == truth).double().mean().item()
    return Outcome(F.cross_entropy(logits, truth).item(), right, digits == sample.digits)


def corners(
    points: Float[Tensor, "batch 2"], cells: Int[Tensor, " batch"], carries: Bool[Tensor, " batch"]
) -> Float[Tensor, "batch 2"]:
    """For each call the corner of the lattice that settles it: both pairs above, or both below.

    Args:
        points: of the sums whose cells these are. carries: what is called, of any sums.
    """
    low, high = (points[cells == corner].mean(0) for corner in (0, 8))
    return torch.where(carries[:, None], high, low)

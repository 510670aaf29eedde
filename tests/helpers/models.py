"""Comparisons of models that several test files make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from addlib.models.bridge import weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def same_weights(a: TransformerBridge, b: TransformerBridge) -> bool:
    """Whether all weights of both are equal bit for bit."""
    return all(
        torch.equal(x, y) for x, y in zip(weights(a).values(), weights(b).values(), strict=True)
    )

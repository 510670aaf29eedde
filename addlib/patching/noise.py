"""Noise as a corruption: embeddings blurred instead of exchanged.

Causal tracing (Meng et al. 2022) adds Gaussian noise to the embeddings of the tokens that carry
what is asked about, and puts activations of the clean run back. No second prompt is needed; but the
model then reads something that no prompt ever gives it (Zhang & Nanda 2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@torch.no_grad()
def embedding_noise(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch position"],
    where: Bool[Tensor, "batch position"],
    times: float = 3.0,
    seed: int = 0,
) -> Float[Tensor, "batch position d_model"]:
    """Gaussian noise for the embeddings of some tokens, 0 for the others, on the CPU.

    Args:
        model: whose embeddings they are.
        tokens: whole prompts.
        where: the tokens that get noise.
        times: its standard deviation, in standard deviations of these tokens' embeddings.
        seed: of the noise, which is the same on every device.

    Raises:
        ValueError: no token gets noise.
    """
    if not where.any():
        raise ValueError("no token gets noise: mark those that carry what is asked about")
    embedded = model.W_E.detach()[tokens[where].to(model.W_E.device)].cpu()
    drawn = torch.randn(embedded.shape, generator=torch.Generator().manual_seed(seed))
    noise = embedded.new_zeros(*tokens.shape, embedded.shape[-1])
    noise[where.cpu()] = times * embedded.std() * drawn.to(embedded)
    return noise

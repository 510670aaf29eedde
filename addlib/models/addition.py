"""The model: a configuration of the addition transformer, and TransformerLens's native bridge built
from it.

What is recorded at each training step: losses by digit and by sub-task, gradient norm, learning
rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from addlib.checks import check_whole
from addlib.models.bridge import boot_bridge
from addlib.tasks.addition import AdditionTask

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the transformer. The default is the model of Quirke & Barez (ICLR 2024): one layer,
    three heads.

    Args:
        n_layers: 1 or more.
        n_heads: attention heads per layer, at most ``width``.
        width: upper bound of the residual width; ``d_model`` is its largest multiple of
            ``n_heads``.
        attn_only: True leaves the MLP out.

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    n_layers: int = 1
    n_heads: int = 3
    width: int = 512
    attn_only: bool = False

    def __post_init__(self) -> None:
        check_whole(self, {"n_layers": 1, "n_heads": 1, "width": 1})
        if self.n_heads > self.width:
            raise ValueError(f"n_heads = {self.n_heads}: must be at most width = {self.width}")
        if not isinstance(self.attn_only, bool):
            raise ValueError(f"attn_only = {self.attn_only!r}: must be True or False")

    @property
    def d_model(self) -> int:
        """Residual width: the largest multiple of ``n_heads`` that is at most ``width`` (3 heads,
        512 → 510).
        """
        return self.width - self.width % self.n_heads

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    @property
    def d_mlp(self) -> int:
        """Neurons of each MLP, 4 · d_model."""
        return 4 * self.d_model


def build_model(
    config: ModelConfig, task: AdditionTask, seed: int, device: str = "cpu"
) -> TransformerBridge:
    """A freshly initialised TransformerLens bridge: ReLU, LayerNorm, learned positions, vocabulary
    B + 2 in and out.

    Weights are drawn on the CPU from ``seed`` alone, so they don't depend on the device.
    TransformerLens 4 scales output projections by 1/√(2 · layers) at initialisation; its version 2,
    which older write-ups used, did not.
    """
    return boot_bridge(
        config,
        task,
        seed,
        device,
        n_layers=config.n_layers,
        d_vocab_out=task.d_vocab,
        normalization_type="LN",
        attn_only=config.attn_only,
    )


def answer_logits(
    model: TransformerBridge, task: AdditionTask, tokens: Int[Tensor, "batch n_ctx"]
) -> Float[Tensor, "batch n_answer d_vocab"]:
    """Logits that predict the answer digits, by column (``[:, 0]`` is for A0), from the library's
    own forward.
    """
    logits = model(tokens)[:, task.answer_positions.start : task.answer_positions.stop]
    return task.by_column(logits)


def answer_nll(
    logits: Float[Tensor, "batch n_answer d_vocab"], answer: Int[Tensor, "batch n_answer"]
) -> Float[Tensor, "batch n_answer"]:
    """-log p of each true answer digit, in nats; the softmax is taken in float64."""
    flat = F.cross_entropy(logits.double().flatten(0, 1), answer.flatten(), reduction="none")
    return flat.view(answer.shape)

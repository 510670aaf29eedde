"""The addition model: its configuration, and TransformerLens's native bridge built from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from addlib.checks import check_choice, check_whole
from addlib.models.bridge import boot_bridge
from addlib.tasks.addition import AdditionTask

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the transformer; by default that of Quirke & Barez (ICLR 2024), one layer, 3 heads.

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
        check_whole(self, 1, "n_layers", "n_heads", "width")
        check_choice(self, (True, False), "attn_only")
        if self.n_heads > self.width:
            raise ValueError(f"n_heads = {self.n_heads}: must be at most width = {self.width}")

    @property
    def d_model(self) -> int:
        """Residual width: the largest multiple of ``n_heads`` up to ``width`` (3, 512 → 510)."""
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
    """A freshly initialised TransformerLens bridge with ReLU, LayerNorm and learned positions.

    Its vocabulary, in and out, is the task's B + 2 tokens. Weights are drawn on the CPU from
    ``seed`` alone, so they don't depend on the device. TransformerLens 4 scales output projections
    by 1/√(2 · layers) at initialisation; its version 2, which older write-ups used, did not.
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
    """Logits that predict the answer digits, by column, from the library's own forward."""
    positions = task.answer_positions
    return task.by_column(model(tokens)[:, positions.start : positions.stop])

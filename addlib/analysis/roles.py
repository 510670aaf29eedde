"""Which head does what, by rule: the pair of digits that it looks at while each answer digit is
made.

While the model computes A_k, a head that adds looks at D_k and D'_k, and one that watches for the
carry at the pair one column further down. From one token to the next the pair moves down a column:
plotted over answer positions and question digits, the attention is a staircase. Its *offset* j - k,
pair looked at minus digit computed, names the head's role. Indices of heads change with the seed;
roles don't.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from addlib.analysis.activations import answer_activations
from addlib.tasks.addition import AdditionTask, Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


NAMES = {0: "base add", -1: "carry", -2: "far carry"}
"""Names of the roles by offset; other offsets are called by their number."""


LEAST_SHARE = 0.5
"""A head has a role only if at least this share of its attention goes there, on average over the
answer digits.
"""


@dataclass(frozen=True)
class Role:
    """What one head does: its stairs' offset, and the mean share of its attention on them."""

    layer: int
    offset: int | None
    head: int
    share: float

    @property
    def name(self) -> str:
        """``"base add"``, ``"carry"``, ``"far carry"``, ``"offset -3"`` or ``"none"``."""
        if self.offset is None:
            return "none"
        return NAMES.get(self.offset, f"offset {self.offset:+d}")


def answer_patterns(
    model: TransformerBridge, questions: Questions, layer: int = 0, batch_size: int = 512
) -> Float[Tensor, "batch heads n_answer n_ctx"]:
    """Attention patterns at the answer positions, by answer column (``[:, :, 0]`` is where A0 is
    computed).
    """
    name = f"blocks.{layer}.attn.hook_pattern"
    return answer_activations(model, [name], questions, batch_size)[name]


def pair_attention(
    pattern: Float[Tensor, "*batch n_answer n_ctx"], task: AdditionTask
) -> Float[Tensor, "*batch n_answer n_digits"]:
    """Share of attention on each pair D_j, D'_j, units first."""
    n = task.n_digits
    return (pattern[..., :n] + pattern[..., n + 1 : 2 * n + 1]).flip(-1)


def stairs(pairs: Float[Tensor, "*batch n_answer n_digits"]) -> Float[Tensor, "*batch n_digits"]:
    """Mean attention along each staircase, by -offset: ``[..., 0]`` is on the digit's own pair,
    ``[..., 1]`` one below.

    The mean is over the answer digits that have such a pair, e.g. for offset -1 over A1 to An.
    """
    n = pairs.shape[-1]
    # The diagonal at -down holds the entries (k, k - down).
    return torch.stack([pairs.diagonal(-down, -2, -1).mean(-1) for down in range(n)], -1)


def addresses(pattern: Float[Tensor, "n_answer n_ctx"], task: AdditionTask) -> list[int | None]:
    """Offset of the pair that one head looks at for each answer column; None where no pair has half
    its attention.

    Args:
        pattern: the head's mean attention at the answer positions, by column.
    """
    share, column = pair_attention(pattern, task).max(-1)
    found = zip(share.tolist(), column.tolist(), strict=True)
    offsets = [best - k if most >= LEAST_SHARE else None for k, (most, best) in enumerate(found)]
    return [None if offset is None or offset > 0 else offset for offset in offsets]


def find_roles(model: TransformerBridge, questions: Questions, layer: int = 0) -> list[Role]:
    """The role of each head of a layer, ordered from the smallest offset up: far carry, carry, base
    add.

    The rule looks at the mean pattern over ``questions`` alone, so it is the same under a
    permutation of the heads.
    """
    pattern = answer_patterns(model, questions, layer).mean(0)  # (heads, n_answer, n_ctx)
    shares = stairs(pair_attention(pattern, questions.task))
    return sorted(
        (_role(layer, head, share) for head, share in enumerate(shares)),
        key=lambda role: (role.offset is None, role.offset or 0, -role.share),
    )


def _role(layer: int, head: int, shares: Float[Tensor, " n_digits"]) -> Role:
    down = int(shares.argmax())
    share = float(shares[down])
    return Role(layer, -down if share >= LEAST_SHARE else None, head, share)

"""Which head does what, by rule: the pair of digits that it looks at for each answer digit.

While the model computes A_k, a head that adds looks at D_k and D'_k, and one that watches for the
carry at the pair one column further down. From one token to the next the pair moves down a column:
plotted over answer positions and question digits, the attention is a staircase. Its *offset* j - k,
pair looked at minus digit computed, names the head's role. Indices of heads change with the seed;
roles don't.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
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
"""A head has a role only if at least this share of its attention goes there, on average."""


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


# ---------------------------------------------------------------- attention on pairs
def answer_patterns(
    model: TransformerBridge, questions: Questions, layer: int = 0, batch_size: int = 512
) -> Float[Tensor, "batch heads n_answer n_ctx"]:
    """Attention patterns at the answer positions, by answer column: ``[:, :, 0]`` is for A0.

    They are on the CPU.
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
    """Mean attention along each staircase, by -offset: ``[..., 1]`` is on the pair one below.

    The mean is over the answer digits that have such a pair, e.g. for offset -1 over A1 to An.
    """
    n = pairs.shape[-1]
    # The diagonal at -down holds the entries (k, k - down).
    return torch.stack([pairs.diagonal(-down, -2, -1).mean(-1) for down in range(n)], -1)


def addresses(pattern: Float[Tensor, "n_answer n_ctx"], task: AdditionTask) -> list[int | None]:
    """Offset of the pair that one head looks at for each answer column.

    None where no pair, at or below the column, has half of the attention.

    Args:
        pattern: the head's mean attention at the answer positions, by column.
    """
    share, column = pair_attention(pattern, task).max(-1)
    offset = column - torch.arange(len(column), device=column.device)
    is_address = (share >= LEAST_SHARE) & (offset <= 0)
    return [int(o) if is_one else None for o, is_one in zip(offset, is_address, strict=True)]


def heads_at(
    pattern: Float[Tensor, "heads n_answer n_ctx"], task: AdditionTask, offset: int
) -> list[int | None]:
    """The head whose address is the offset, for each answer column; of several, the surest.

    None where no head looks there: what such a head would do is not done.

    Args:
        pattern: mean attention at the answer positions, by column.
    """
    share = pair_attention(pattern, task).amax(-1)  # (heads, n_answer)
    has_it = torch.tensor([[own == offset for own in addresses(of, task)] for of in pattern])
    surest = share.masked_fill(~has_it.to(share.device), -1).argmax(0).tolist()
    return [head if has_it[head, k] else None for k, head in enumerate(surest)]


# ----------------------------------------------------------------------------- roles
def find_roles(model: TransformerBridge, questions: Questions, layer: int = 0) -> list[Role]:
    """The role of each head of a layer, from the smallest offset up: far carry, carry, base add.

    The rule looks at the mean pattern over ``questions`` alone, so it is the same under a
    permutation of the heads. Heads of one role come with the largest share first.
    """
    pattern = answer_patterns(model, questions, layer).mean(0)  # (heads, n_answer, n_ctx)
    shares, down = stairs(pair_attention(pattern, questions.task)).max(-1)
    roles = [
        Role(layer, -step if share >= LEAST_SHARE else None, head, share)
        for head, (share, step) in enumerate(zip(shares.tolist(), down.tolist(), strict=True))
    ]
    return sorted(roles, key=lambda role: (role.offset is None, role.offset or 0, -role.share))


def role_labels(roles: Iterable[Role]) -> list[str]:
    """A name for each head, all distinct: "carry", "carry (2)", "no role".

    Where the heads are of several layers, the layer is part of it: "layer 1, carry".
    """
    roles = list(roles)
    has_layers = len({role.layer for role in roles}) > 1
    seen: Counter[str] = Counter()
    named = []
    for role in roles:
        name = "no role" if role.offset is None else role.name
        seen[name] += 1
        layer = f"layer {role.layer}, " if has_layers else ""
        number = f" ({seen[name]})" if seen[name] > 1 else ""
        named.append(layer + name + number)
    return named


def roles_by_name(roles: Iterable[Role]) -> dict[str, Role]:
    """The first head of each name; as :func:`find_roles` gives them, that of the largest share."""
    named: dict[str, Role] = {}
    for role in roles:
        named.setdefault(role.name, role)
    return named

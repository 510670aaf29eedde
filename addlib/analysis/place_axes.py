"""How far one pair below moves what a digit is written from, and how far nines move it for nothing.

Both are of a one-layer model's residual stream before the MLP, at the position from which A_k is
written. Pair j, set from *below nine* to *above nine*, moves it along pair j's *axis*. A pair that
sums to nine decides nothing, so the ten such pairs should stand at one point of another pair's axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from addlib.models.attention_tables import AttentionTables
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import uniform_questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def axis_of(
    model: TransformerBridge, task: AdditionTask, k: int, j: int, seed: int
) -> Float[Tensor, " dims"]:
    """Half of how far the stream at A_k moves, in the mean, if pair j goes from below to above nine.

    The axis is on the CPU.

    Args:
        seed: of the questions that have all other digits.
    """
    low = torch.tensor([(a, b) for a in range(task.base) for b in range(task.base - 1 - a)])
    tables = AttentionTables.of(model, task, k)
    rest = uniform_questions(task, 60 * len(low), torch.Generator().manual_seed(seed))
    ends = []
    for pairs in (low, task.base - 1 - low):
        x, y = rest.x.clone(), rest.y.clone()
        x[:, j], y[:, j] = pairs.repeat(60, 1).T
        ends.append(tables(Questions(task, x, y)).mean(0))
    return (ends[1] - ends[0]) / 2


def nine_spread(
    model: TransformerBridge,
    task: AdditionTask,
    k: int,
    j: int,
    axis: Float[Tensor, " dims"],
    seed: int,
) -> float:
    """Along an axis at A_k: standard deviation of the ten pairs j that sum to nine, each a mean."""
    tables = AttentionTables.of(model, task, k).along(axis[:, None] / axis.norm())
    rest = uniform_questions(task, 600, torch.Generator().manual_seed(seed))
    x, y = (part.repeat_interleave(task.base, 0) for part in (rest.x, rest.y))
    x[:, j] = torch.arange(task.base).repeat(600)
    y[:, j] = task.base - 1 - x[:, j]
    return tables(Questions(task, x, y)).view(600, task.base).mean(0).std().item()


def drowned(model: TransformerBridge, task: AdditionTask, k: int, seed: int) -> float:
    """How far nines one and two below A_k spread along the axis of the pair three below, in its lengths.

    Above 1 the ten pairs that sum to nine move the stream further than that pair's own state does.
    """
    axis = axis_of(model, task, k, k - 3, seed)
    spread = max(nine_spread(model, task, k, k - down, axis, seed) for down in (1, 2))
    return spread / axis.norm().item()

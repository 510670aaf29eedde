"""How far one pair below moves what a digit is written from, and how far nines move it for nothing.

Both are of a one-layer model's residual stream before the MLP, at the position from which A_k is
written. Pair j, set from *below nine* to *above nine*, moves it along pair j's *axis*. A pair that
sums to nine decides nothing, so the ten such pairs should stand at one point of another pair's axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from addlib.analysis.answers import Hook
from addlib.models.attention_tables import AttentionTables
from addlib.models.fast_addition import centred
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


def nines_silenced(
    model: TransformerBridge,
    asked: Questions,
    k: int,
    axis: Float[Tensor, " dims"] | None = None,
) -> Hook:
    """A hook that takes out of the stream at A_k which nines stand one and two below.

    It sets the stream to its mean over the hundred ways in which the two pairs can sum to nine.
    For a batch of just these questions, in which both do.

    Args:
        axis: along it alone; None means in all directions.
    """
    task, device = asked.task, next(model.parameters()).device
    ways = torch.cartesian_prod(torch.arange(task.base), torch.arange(task.base))
    x, y = (part.repeat_interleave(len(ways), 0) for part in (asked.x, asked.y))
    for column, digits in zip((k - 1, k - 2), ways.T, strict=True):
        x[:, column] = digits.repeat(len(asked))
        y[:, column] = task.base - 1 - x[:, column]
    tables = AttentionTables.of(model, task, k)
    unit = torch.eye(tables.own.shape[1])
    if axis is not None:  # LayerNorm takes a stream's mean away
        unit = F.normalize(centred(axis.cpu()[None])).T
    unit = unit.to(tables.own)
    means = tables.along(unit)(Questions(task, x, y)).unflatten(0, (len(asked), -1)).mean(1)
    position = task.answer_positions[task.answer_columns.index(k)]
    means, unit = means.to(device), unit.to(device)

    def hook(value: Tensor, **_: object) -> Tensor:
        value = value.clone()
        value[:, position] += (means - value[:, position] @ unit) @ unit.T
        return value

    return "blocks.0.hook_resid_mid", hook

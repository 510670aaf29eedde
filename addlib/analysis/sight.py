"""What a model sees of a carry from far below, apart from what it guesses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from addlib.analysis.answers import Hook, answer
from addlib.stats import d_prime
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import carry_twins
from addlib.tasks.subtasks import base_sum

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def says_carry(
    model: TransformerBridge,
    task: AdditionTask,
    k: int,
    down: int,
    count: int,
    generator: torch.Generator,
    change: Callable[[Questions], Hook] | None = None,
) -> Bool[Tensor, "2 count"]:
    """Whether a model writes own sum and one more at A_k: in cascades, and in their twins.

    The answers are on the CPU.

    Args:
        down: how far below column k the carry is made, as in
            :func:`addlib.tasks.sampling.carry_twins`.
        change: makes a hook for the cascades, and one for the twins, under which they are asked.
    """
    both = carry_twins(task, k, down, count, generator)
    more = [(base_sum(asked)[:, k] + 1) % task.base for asked in both]
    hooks = [[change(asked)] if change else [] for asked in both]
    given = [
        answer(model, asked, under, batch_size=count if under else None).digits[:, k]
        for asked, under in zip(both, hooks, strict=True)
    ]
    return torch.stack(given) == torch.stack(more)


def sight(said: Bool[Tensor, "2 count"]) -> float:
    """d' between cascades and twins: 0 for an observer that always guesses the same."""
    hits, false_alarms = said.sum(1).tolist()
    return d_prime(hits, said.shape[1], false_alarms, said.shape[1])

"""Maps over the two digits of one column, the means over all others, and what explains them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import uniform_questions


def digit_grid(
    task: AdditionTask, column: int, repeats: int, generator: torch.Generator
) -> Questions:
    """``repeats`` questions for each pair of digits in a column; the other columns are uniform."""
    digits = torch.arange(task.base)
    grid = torch.cartesian_prod(digits, digits).repeat_interleave(repeats, 0)
    questions = uniform_questions(task, len(grid), generator)
    questions.x[:, column], questions.y[:, column] = grid.T
    return questions


def over_grid(values: Float[Tensor, "question ..."], base: int) -> Float[Tensor, "base base ..."]:
    """Means over the questions of each cell: rows are the first operand's digit."""
    return values.unflatten(0, (base, base, -1)).mean(2)


def explained_by(
    values: Float[Tensor, "base base *rest"], groups: Int[Tensor, "base base"]
) -> float:
    """Share of the variance over the grid that the means of groups of cells explain."""
    flat, group = values.reshape(groups.numel(), -1).double(), groups.flatten()
    own = [flat[group == number].mean(0) for number in range(int(group.max()) + 1)]
    means = torch.stack(own)[group]
    return float(means.var(0, correction=0).sum() / flat.var(0, correction=0).sum())

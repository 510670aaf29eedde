"""Questions chosen for their class: the pairs of well-known write-ups, and suites generated for any
size and base.
"""

from __future__ import annotations

import json
from importlib import resources

import torch
from jaxtyping import Int
from torch import Tensor

from addlib.sampling import cascade_questions, class_questions
from addlib.task import BUCKETS, AdditionTask, Questions


def published_suite(task: AdditionTask) -> Questions:
    """The pairs that write-ups on five-digit addition quote, from easy to hard.

    Only pairs are stored. Their classes and cascade lengths follow from the digits, as everywhere:
    ``3340 + 6660`` → US9 of cascade length 2, because its units column sums to 0 and makes no
    carry.

    Raises:
        ValueError: the task is not decimal addition of at least five digits with carrying.
    """
    stored = json.loads(
        (resources.files("addlib") / "data" / "question_suites.json").read_text(encoding="utf-8")
    )
    if task.base != stored["base"] or not task.carry:
        raise ValueError(
            f"base = {task.base}, carry = {task.carry}: the published pairs are for base "
            f"{stored['base']} with carrying"
        )
    if task.n_digits < stored["n_digits"]:
        raise ValueError(
            f"n_digits = {task.n_digits}: the published pairs need at least {stored['n_digits']}"
        )
    return Questions.of(task, [(x, y) for x, y in stored["pairs"]])


def generated_suite(task: AdditionTask, per_class: int = 3, seed: int = 0) -> Questions:
    """``per_class`` questions of class BA, as many UC1, and as many of each cascade length from 1
    to the longest.

    Each is uniform over all questions of its kind. A task has no questions of a kind that needs
    more columns or
    carrying: one digit has only BA and UC1, and without carrying everything is BA.

    Raises:
        ValueError: ``per_class`` below 1, or a negative seed.
    """
    if per_class < 1 or seed < 0:
        raise ValueError(
            f"per_class = {per_class}, seed = {seed}: must be at least 1, and 0 or more"
        )
    generator = torch.Generator().manual_seed(seed)
    longest = task.n_digits - 1 if task.carry else 0
    parts = [
        class_questions(task, name, per_class, generator)
        for name in ("BA", "UC1")[: 1 + task.carry]
    ]
    parts += [
        cascade_questions(task, length, per_class, generator) for length in range(1, longest + 1)
    ]
    return joined(parts)


def joined(parts: list[Questions]) -> Questions:
    """Several batches of questions of one task as one batch, in their order.

    Raises:
        ValueError: no batch, or batches of several tasks.
    """
    if len({part.task for part in parts}) != 1:
        raise ValueError(f"questions of {len({part.task for part in parts})} tasks: must be of one")
    return Questions(
        parts[0].task, torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    )


def without_carry(questions: Questions) -> Questions:
    """Each question's *twin*: the same but for one pair, so that its longest cascade's carry is
    never made.

    Both digits d of the pair that makes the carry become B - 1 - d, which turns a sum of B or more
    into one of B - 2 or less (``00555 + 00445`` → ``00554 + 00444``). The columns of the cascade
    still sum to B - 1, now with nothing to hand on. Of several longest cascades the lowest is
    taken. Where the pair was uniform among those that make a carry, it is so among those that sum
    to B - 2 or less.

    Raises:
        ValueError: a question without a cascade.
    """
    length = questions.cascade_length
    if (length == 0).any():
        bad = int((length == 0).nonzero()[0])
        raise ValueError(
            f"{questions.task.text(questions.tokens[bad])}: has no cascade to take the carry from"
        )
    above = above_cascade(questions)[:, None]
    maker = (
        torch.arange(questions.task.n_digits, device=above.device) == above - length[:, None] - 1
    )
    top = questions.task.base - 1
    x, y = (torch.where(maker, top - digits, digits) for digits in (questions.x, questions.y))
    return Questions(questions.task, x, y)


def above_cascade(questions: Questions) -> Int[Tensor, " batch"]:
    """Column just above each question's longest cascade (the lowest of several); 1 where there is
    none.
    """
    length = questions.cascade_length
    return (questions.us9_run == length[:, None]).long().argmax(1) + 1


def class_name(question_class: int, cascade_length: int) -> str:
    """A question's class as the suites list it: BA, UC1, simple US9, or US9 with its cascade
    length.
    """
    if cascade_length == 0:
        return BUCKETS[question_class]
    return "simple US9" if cascade_length == 1 else f"US9, cascade of {cascade_length}"

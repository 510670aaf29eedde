"""Which questions are drawn, and how often each kind occurs: exact probabilities and seeded
samplers.

Questions chosen for their class: the pairs of well-known write-ups, and suites generated for any
size and base.
"""

from __future__ import annotations

import json
from fractions import Fraction
from importlib import resources

import torch
from jaxtyping import Int
from torch import Tensor

from addlib.tasks.addition import BUCKETS, AdditionTask, Questions


def class_probabilities(task: AdditionTask) -> tuple[dict[str, Fraction], list[Fraction]]:
    """Exact probability of each question class and of each cascade length, for uniform operands.

    A Markov chain over columns from the units up. Its state is (carry in, was there a carry, run of
    US9 columns that ends here, longest run so far); each column draws s < B - 1, s = B - 1 or s ≥
    B.

    Returns:
        ``{"BA": p, "UC1": p, "US9": p}`` and ``[P(length 0), …, P(length n)]``, both summing to 1.
    """
    cells = task.base**2
    p_nine = Fraction(task.base, cells)  # B of the B² digit pairs sum to B - 1
    p_make = Fraction(
        task.base * (task.base - 1) // 2, cells
    )  # as many sum to B or more as to B - 2 or less
    p_low = 1 - p_nine - p_make
    states = {(False, False, 0, 0): Fraction(1)}
    for _ in range(task.n_digits):
        following: dict[tuple[bool, bool, int, int], Fraction] = {}
        for (carry, any_carry, run, longest), p in states.items():
            us9_run = run + 1 if carry else 0
            for out, next_run, weight in (
                (False, 0, p_low),
                (carry, us9_run, p_nine),
                (True, 0, p_make),
            ):
                out = out and task.carry
                key = (out, any_carry or out, next_run, max(longest, next_run))
                following[key] = following.get(key, Fraction(0)) + p * weight
        states = following
    lengths = [
        sum((p for s, p in states.items() if s[3] == length), Fraction(0))
        for length in range(task.n_digits + 1)
    ]
    no_carry = sum((p for s, p in states.items() if not s[1]), Fraction(0))
    return {"BA": no_carry, "UC1": lengths[0] - no_carry, "US9": 1 - lengths[0]}, lengths


def bucket_probabilities(task: AdditionTask) -> list[list[Fraction]]:
    """Exact share of each bucket in each column, ``[column][bucket]``, for uniform operands.

    P(c_{i+1} = 1) = P(s ≥ B) + P(s = B - 1) · P(c_i = 1), and s_i is independent of c_i.
    """
    p_nine, p_make = Fraction(1, task.base), Fraction(task.base - 1, 2 * task.base)
    shares, p_carry = [], Fraction(0)
    for _ in range(task.n_digits):
        shares.append([1 - p_carry, p_carry * (1 - p_nine), p_carry * p_nine])
        if task.carry:
            p_carry = p_make + p_nine * p_carry
    return shares


def uniform_questions(task: AdditionTask, count: int, generator: torch.Generator) -> Questions:
    """``count`` questions with uniform operands, drawn from ``generator`` on its device."""
    shape = (2, count, task.n_digits)
    x, y = torch.randint(task.base, shape, generator=generator, device=generator.device)
    return Questions(task, x, y)


def training_questions(
    task: AdditionTask,
    count: int,
    step: int,
    generator: torch.Generator,
    enrich_every: int = 5,
    enrich_share: float = 0.2,
) -> Questions:
    """The training batch of step ``step``: uniform operands, and one batch in ``enrich_every``
    enriched.

    With the defaults, steps 4, 9, 14, … are enriched: 20 % of the (question, column) cells, drawn
    without replacement, get one operand's digit replaced by B - 1 minus the other's, so that they
    sum to B - 1. A coin per batch says which operand. Only ``generator`` is advanced, and the same
    seed gives the same stream on the same device.
    """
    questions = uniform_questions(task, count, generator)
    if enrich_every == 0 or step % enrich_every != enrich_every - 1:
        return questions
    device, cells = generator.device, count * task.n_digits
    chosen = torch.zeros(cells, dtype=torch.bool, device=device)
    chosen[
        torch.randperm(cells, generator=generator, device=device)[: round(enrich_share * cells)]
    ] = True
    chosen = chosen.view(count, task.n_digits)
    change_x = torch.randint(
        2, (1,), generator=generator, device=device
    ).bool()  # stays on the device: no host sync
    x, y, top = questions.x, questions.y, task.base - 1
    return Questions(
        task,
        torch.where(chosen & change_x, top - y, x),
        torch.where(chosen & ~change_x, top - x, y),
    )


def class_questions(
    task: AdditionTask, name: str, count: int, generator: torch.Generator
) -> Questions:
    """``count`` questions of class ``"BA"``, ``"UC1"`` or ``"US9"``, uniform over all questions of
    that class.

    BA is too rare to wait for where there are many digits, but its columns are independent: each
    pair is one of those that make no carry. The others are common, and drawn by rejection.

    Raises:
        ValueError: the task has no question of this class.
    """
    least = {"BA": 1, "UC1": 1, "US9": 2}
    if name not in least or task.n_digits < least[name] or (name != "BA" and not task.carry):
        raise ValueError(
            f"name = {name!r}: {task} has no such questions; the classes are {', '.join(BUCKETS)}"
        )
    if name == "BA":
        most = task.base if task.carry else 2 * task.base
        digits = range(task.base)
        pairs = torch.tensor(
            [(a, b) for a in digits for b in digits if a + b < most], device=generator.device
        )
        rows = torch.randint(
            len(pairs), (count, task.n_digits), generator=generator, device=generator.device
        )
        return Questions(task, *pairs[rows].unbind(-1))
    kept: list[Tensor] = []
    while sum(part.shape[1] for part in kept) < count:
        draw = uniform_questions(task, max(4 * count, 1024), generator)
        kept.append(torch.stack([draw.x, draw.y])[:, draw.question_class == BUCKETS.index(name)])
    return Questions(task, *torch.cat(kept, 1)[:, :count])


def cascade_questions(
    task: AdditionTask, length: int, count: int, generator: torch.Generator
) -> Questions:
    """``count`` questions of one cascade length, uniform over all questions of that length.

    Long cascades are too rare to wait for (at n = 5, 1 question in 1,111 has length 3 or 4), so a
    run of US9 columns is planted at a uniform place above a column that makes a carry. A question
    with m longest runs can be planted in m ways; it is kept with probability 1/m, which makes the
    draw exactly uniform.

    Raises:
        ValueError: no question has this length; the units column receives no carry, so n - 1 is the
            longest.
    """
    longest = task.n_digits - 1 if task.carry else 0
    if not 0 <= length <= longest:
        raise ValueError(f"length = {length!r}: cascades of this task have lengths 0 to {longest}")
    kept: list[Tensor] = []
    while sum(part.shape[1] for part in kept) < count:
        draw = uniform_questions(task, max(2 * count, 256), generator)
        if length:
            draw = _plant_cascade(draw, length, generator)
        ways = (
            (draw.us9_run == length).sum(1)
            if length
            else torch.ones(len(draw), device=generator.device)
        )
        coin = torch.rand(len(draw), generator=generator, device=generator.device)
        keep = (draw.cascade_length == length) & (coin * ways < 1)
        kept.append(torch.stack([draw.x, draw.y])[:, keep])
    x, y = torch.cat(kept, 1)[:, :count]
    return Questions(task, x, y)


def _plant_cascade(draw: Questions, length: int, generator: torch.Generator) -> Questions:
    """The questions with a make-carry column and ``length`` sums of B - 1 above it, at a uniform
    place.
    """
    base, device, shape = draw.task.base, generator.device, (len(draw), 1)
    start = torch.randint(
        1, draw.task.n_digits - length + 1, shape, generator=generator, device=device
    )
    column = torch.arange(draw.task.n_digits, device=device)
    nines = (column >= start) & (column < start + length)
    # Pairs (b, B - 1 - a) with a < b are exactly the pairs that sum to B or more, each once.
    a = torch.randint(base, shape, generator=generator, device=device)
    b = (a + torch.randint(1, base, shape, generator=generator, device=device)) % base
    make = column == start - 1
    x = torch.where(make, torch.maximum(a, b), draw.x)
    y = torch.where(make, base - 1 - torch.minimum(a, b), torch.where(nines, base - 1 - x, draw.y))
    return Questions(draw.task, x, y)


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

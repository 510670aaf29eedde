"""Which questions are drawn, and how often each kind occurs.

Exact probabilities of the classes, seeded samplers, suites of questions that are chosen for their
class, and the twin of a question whose cascade's carry is never made. Samplers draw on the CPU, from
a generator of the CPU: a GPU's generator has another stream, so the same seed would ask other
questions there.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from importlib import resources

import torch
from jaxtyping import Int
from torch import Tensor

from addlib.tasks.addition import BUCKETS, AdditionTask, Questions


# --------------------------------------------------------------- exact probabilities
def class_probabilities(task: AdditionTask) -> tuple[dict[str, Fraction], list[Fraction]]:
    """Exact probability of each question class and of each cascade length, for uniform operands.

    A Markov chain over columns from the units up. Its state is (carry in, was there a carry, run of
    US9 columns that ends here, longest run so far); each column draws s < B - 1, s = B - 1 or s ≥
    B.

    Returns:
        ``{"BA": p, "UC1": p, "US9": p}`` and ``[P(length 0), …, P(length n)]``, both summing to 1.
    """
    p_nine, p_make = pair_probabilities(task)
    p_low = 1 - p_nine - p_make
    states = {(False, False, 0, 0): Fraction(1)}
    for _ in range(task.n_digits):
        following: dict[tuple[bool, bool, int, int], Fraction] = defaultdict(Fraction)
        for (carry, any_carry, run, longest), p in states.items():
            us9_run = run + 1 if carry else 0
            sums = ((False, 0, p_low), (carry, us9_run, p_nine), (task.carry, 0, p_make))
            for out, next_run, weight in sums:
                state = (out, any_carry or out, next_run, max(longest, next_run))
                following[state] += p * weight
        states = following
    lengths = [Fraction(0)] * (task.n_digits + 1)
    no_carry = Fraction(0)
    for (_, any_carry, _, longest), p in states.items():
        lengths[longest] += p
        if not any_carry:
            no_carry += p
    return {"BA": no_carry, "UC1": lengths[0] - no_carry, "US9": 1 - lengths[0]}, lengths


def bucket_probabilities(task: AdditionTask) -> list[list[Fraction]]:
    """Exact share of each bucket in each column, ``[column][bucket]``, for uniform operands.

    P(c_{i+1} = 1) = P(s ≥ B) + P(s = B - 1) · P(c_i = 1), and s_i is independent of c_i.
    """
    p_nine, p_make = pair_probabilities(task)
    shares = []
    p_carry = Fraction(0)
    for _ in range(task.n_digits):
        shares.append([1 - p_carry, p_carry * (1 - p_nine), p_carry * p_nine])
        if task.carry:
            p_carry = p_make + p_nine * p_carry
    return shares


def pair_probabilities(task: AdditionTask) -> tuple[Fraction, Fraction]:
    """P(s = B - 1) and P(s ≥ B) of one column; the latter is also P(s < B - 1)."""
    return Fraction(1, task.base), Fraction(task.base - 1, 2 * task.base)


# -------------------------------------------------------------------------- samplers
def uniform_questions(task: AdditionTask, count: int, generator: torch.Generator) -> Questions:
    """``count`` questions with uniform operands, drawn from ``generator``."""
    x, y = torch.randint(task.base, (2, count, task.n_digits), generator=generator)
    return Questions(task, x, y)


def nine_rich_questions(
    task: AdditionTask, count: int, generator: torch.Generator, share: float = 0.5
) -> Questions:
    """``count`` uniform questions in which each pair is made to sum to B - 1 with one probability.

    Args:
        share: the probability, for each column on its own.
    """
    questions = uniform_questions(task, count, generator)
    chosen = torch.rand(count, task.n_digits, generator=generator) < share
    return Questions(
        task, questions.x, torch.where(chosen, task.base - 1 - questions.x, questions.y)
    )


def every_setting(task: AdditionTask, k: int, generator: torch.Generator) -> Questions:
    """Two sums for each setting of A_k: pair below, pair two below, and the digit's own sum.

    In the first of the two no carry comes into the column two below, in the second one does (not
    where there is none: then in neither). All other digits are drawn: the own pair uniform among
    those of its sum, everything above uniform, everything further down uniform among what makes
    this carry. In base 10 these are 2 · 190,000 sums, the two of a setting side by side.

    Raises:
        ValueError: A_k has no pair of its own, or not two below.
    """
    base, n = task.base, task.n_digits
    if not 2 <= k < n:
        raise ValueError(f"k = {k}: must be from 2 to {n - 1}")
    digits = torch.arange(base)
    two, below = digits.repeat(2, 1), digits.repeat(2, 1)
    grid = torch.cartesian_prod(*two, *below, torch.arange(2 * base - 1), torch.arange(2))
    count = len(grid)
    x, y = torch.randint(base, (2, count, n), generator=generator)
    x[:, k - 2], y[:, k - 2], x[:, k - 1], y[:, k - 1], own, carry = grid.T
    least = (own - base + 1).clamp(min=0)
    most = own.clamp(max=base - 1)
    x[:, k] = least + (torch.rand(count, generator=generator) * (most - least + 1)).long()
    y[:, k] = own - x[:, k]
    if k > 2:
        todo = torch.arange(count)
        while len(todo):
            lower = torch.randint(base, (2, len(todo), k - 2), generator=generator)
            x[todo, : k - 2], y[todo, : k - 2] = lower
            made = Questions(task, x[todo], y[todo]).carry[:, k - 2]
            todo = todo[made != carry[todo].bool()]
    return Questions(task, x, y)


def training_questions(
    task: AdditionTask,
    count: int,
    step: int,
    generator: torch.Generator,
    enrich_every: int = 5,
    enrich_share: float = 0.2,
) -> Questions:
    """The training batch of a step: uniform operands, one batch in ``enrich_every`` enriched.

    With the defaults, steps 4, 9, 14, … are enriched: 20 % of the (question, column) cells, drawn
    without replacement, get one operand's digit replaced by B - 1 minus the other's, so that they
    sum to B - 1. A coin per batch says which operand. Only ``generator`` is advanced.
    """
    questions = uniform_questions(task, count, generator)
    if enrich_every == 0 or step % enrich_every != enrich_every - 1:
        return questions
    cells = count * task.n_digits
    order = torch.randperm(cells, generator=generator)
    chosen = torch.zeros(cells, dtype=torch.bool)
    chosen[order[: round(enrich_share * cells)]] = True
    chosen = chosen.view(count, task.n_digits)
    change_x = torch.randint(2, (1,), generator=generator).bool()
    top = task.base - 1
    x = torch.where(chosen & change_x, top - questions.y, questions.x)
    y = torch.where(chosen & ~change_x, top - questions.x, questions.y)
    return Questions(task, x, y)


def class_questions(
    task: AdditionTask, name: str, count: int, generator: torch.Generator
) -> Questions:
    """``count`` questions of class ``"BA"``, ``"UC1"`` or ``"US9"``, uniform over all of the class.

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
        numbers = torch.arange(task.base)
        pairs = torch.cartesian_prod(numbers, numbers)
        if task.carry:
            pairs = pairs[pairs.sum(1) < task.base]
        rows = torch.randint(len(pairs), (count, task.n_digits), generator=generator)
        return Questions(task, *pairs[rows].unbind(-1))

    def draw() -> Questions:
        questions = uniform_questions(task, max(4 * count, 1024), generator)
        return questions[questions.question_class == BUCKETS.index(name)]

    return _collected(draw, count)


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

    def draw() -> Questions:
        questions = uniform_questions(task, max(2 * count, 256), generator)
        if length:
            questions = _plant_cascade(questions, length, generator)
        coin = torch.rand(len(questions), generator=generator)
        keep = questions.cascade_length == length
        if length:
            keep &= coin * (questions.us9_run == length).sum(1) < 1
        return questions[keep]

    return _collected(draw, count)


def _collected(draw: Callable[[], Questions], count: int) -> Questions:
    """The first ``count`` questions of as many draws as it takes."""
    parts = [draw()]
    while sum(len(part) for part in parts) < count:
        parts.append(draw())
    return joined(parts)[:count]


def _plant_cascade(questions: Questions, length: int, generator: torch.Generator) -> Questions:
    """The questions with a run of ``length`` sums of B - 1 at a uniform place, above a carry."""
    task = questions.task
    drawn = partial(torch.randint, size=(len(questions), 1), generator=generator)
    start = drawn(1, task.n_digits - length + 1)
    # Pairs (b, B - 1 - a) with a < b are exactly the pairs that sum to B or more, each once.
    a = drawn(0, task.base)
    b = (a + drawn(1, task.base)) % task.base
    top = task.base - 1
    column = torch.arange(task.n_digits)
    makes = column == start - 1
    nines = (column >= start) & (column < start + length)
    x = torch.where(makes, torch.maximum(a, b), questions.x)
    y = torch.where(nines, top - x, questions.y)
    return Questions(task, x, torch.where(makes, top - torch.minimum(a, b), y))


# ---------------------------------------------------------------------------- suites
def published_suite(task: AdditionTask) -> Questions:
    """The pairs that write-ups on five-digit addition quote, from easy to hard.

    Only pairs are stored. Their classes and cascade lengths follow from the digits, as everywhere:
    ``3340 + 6660`` → US9 of cascade length 2, because its units column sums to 0 and makes no
    carry.

    Raises:
        ValueError: the task is not decimal addition of at least five digits with carrying.
    """
    file = resources.files("addlib") / "data" / "question_suites.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    base, n_digits = stored["base"], stored["n_digits"]
    if task.base != base or not task.carry or task.n_digits < n_digits:
        raise ValueError(
            f"{task}: the published pairs need base {base}, carrying and {n_digits} digits or more"
        )
    return Questions.of(task, stored["pairs"])


def generated_suite(task: AdditionTask, per_class: int = 3, seed: int = 0) -> Questions:
    """``per_class`` questions of each kind: BA, UC1, and every cascade length from 1 up.

    Each is uniform over all questions of its kind. A task has no questions of a kind that needs
    more columns or carrying: one digit has only BA and UC1, and without carrying everything is BA.

    Raises:
        ValueError: ``per_class`` below 1, or a negative seed.
    """
    if per_class < 1 or seed < 0:
        raise ValueError(
            f"per_class = {per_class}, seed = {seed}: must be at least 1, and 0 or more"
        )
    generator = torch.Generator().manual_seed(seed)
    parts = [class_questions(task, "BA", per_class, generator)]
    if task.carry:
        parts.append(class_questions(task, "UC1", per_class, generator))
        lengths = range(1, task.n_digits)
        parts += [cascade_questions(task, length, per_class, generator) for length in lengths]
    return joined(parts)


def joined(parts: list[Questions]) -> Questions:
    """Several batches of questions of one task as one batch, in their order.

    Raises:
        ValueError: no batch, or batches of several tasks.
    """
    tasks = {part.task for part in parts}
    if len(tasks) != 1:
        raise ValueError(f"questions of {len(tasks)} tasks: must be of one")
    x = torch.cat([part.x for part in parts])
    return Questions(tasks.pop(), x, torch.cat([part.y for part in parts]))


def class_name(question_class: int, cascade_length: int) -> str:
    """A question's class as the suites list it, e.g. UC1 or "US9, cascade of 2"."""
    if cascade_length == 0:
        return BUCKETS[question_class]
    return "simple US9" if cascade_length == 1 else f"US9, cascade of {cascade_length}"


# ----------------------------------------------------------------------------- twins
def carry_twins(
    task: AdditionTask, k: int, down: int, count: int, generator: torch.Generator
) -> tuple[Questions, Questions]:
    """Pairs of questions that differ in one digit, and so in the carry into column ``k``.

    The pair in column k - down makes a carry in the first question. In the second, D there is so
    much smaller that it makes none and does not sum to B - 1 either. All columns between sum to
    B - 1 and hand it on, and column k does not, so no digit above A_k depends on it. For k = 2 and
    down = 2: ``30399 + 34802`` and ``30391 + 34802``.

    Args:
        k: an answer column. down: from 1 to k, how far below it the carry is made.
    """
    drawn = uniform_questions(task, count, generator)
    x, y = drawn.x, drawn.y
    column, top = k - down, task.base - 1
    y[:, column + 1 : k] = top - x[:, column + 1 : k]
    if k < task.n_digits:
        y[:, k] = torch.where(x[:, k] + y[:, k] == top, (y[:, k] + 1) % task.base, y[:, k])
    y[:, column] = torch.randint(1, top, (count,), generator=generator)
    less = x.clone()
    x[:, column] = top - (torch.rand(count, generator=generator) * y[:, column]).long()
    few = torch.rand(count, generator=generator) * (top - y[:, column])
    less[:, column] = few.long()
    return Questions(task, x, y), Questions(task, less, y.clone())


def without_carry(questions: Questions) -> Questions:
    """Each question's *twin*, the same but for the pair that makes its longest cascade's carry.

    Both digits d of the pair become B - 1 - d, which turns a sum of B or more into one of B - 2 or
    less (``00555 + 00445`` → ``00554 + 00444``). The columns of the cascade still sum to B - 1, now
    with nothing to hand on. Of several longest cascades the lowest is taken. Where the pair was
    uniform among those that make a carry, it is so among those that sum to B - 2 or less.

    Raises:
        ValueError: a question without a cascade.
    """
    task = questions.task
    length = questions.cascade_length
    plain = questions[length == 0]
    if len(plain):
        raise ValueError(f"{task.text(plain.tokens[0])}: has no cascade to take the carry from")
    maker = above_cascade(questions) - length - 1
    is_maker = torch.arange(task.n_digits, device=maker.device) == maker[:, None]
    x, y = (
        torch.where(is_maker, task.base - 1 - digits, digits)
        for digits in (questions.x, questions.y)
    )
    return Questions(task, x, y)


def above_cascade(questions: Questions) -> Int[Tensor, " batch"]:
    """Column just above each question's longest, lowest cascade; 1 where there is none."""
    length = questions.cascade_length
    return (questions.us9_run == length[:, None]).long().argmax(1) + 1

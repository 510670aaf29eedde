"""What an addition algorithm has to know for each answer digit, as exact integers.

A_k = (s_k + c_k) mod B needs the base sum s_k mod B and the carry c_k. The pair one column further
down mostly settles the carry: its *tri-state* is 0 (no carry whatever comes), 1 (a carry whatever
comes) or undetermined (it sums to B - 1 and hands on the carry below it). So base sum, tri-state
and the carry below the pair, 10 · 3 · 2 = 60 keys in base ten, determine the digit (Quirke & Barez,
ICLR 2024, and Quirke et al. 2024 name the parts).

Everything is indexed by answer column k = 0…n, like answer digits. The top digit has no pair of its
own: its base sum is 0. The units digit has no pair below: its tri-state is 0. Below the units there
is no carry.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from addlib.tasks.addition import Questions

UNDETERMINED = 2
"""Code of the tri-state of a pair that sums to B - 1; 0 and 1 are the carry itself."""

MISTAKES = ("right", "carry ignored", "cascade ignored", "carry invented", "another digit")
"""What can be said of an answer digit, by the codes of :func:`mistakes`."""


# ------------------------------------------------------ what determines an answer digit
def base_sum(questions: Questions) -> Int[Tensor, "batch n_answer"]:
    """s_k mod B of each answer column; 0 for the top digit."""
    return F.pad(questions.x + questions.y, (0, 1)) % questions.task.base


def tri_state(questions: Questions) -> Int[Tensor, "batch n_answer"]:
    """Tri-state of the pair one column below each answer digit (A1 of 47 + 85: 7 + 5, so 1)."""
    of_pair = questions.mc1.long() + UNDETERMINED * questions.ms9.long()
    return F.pad(of_pair, (1, 0))


def tri_state_of_second(questions: Questions) -> Int[Tensor, "batch n_answer"]:
    """Tri-state of the pair two columns below each answer digit; 0 where there is none."""
    return F.pad(tri_state(questions), (1, 0))[:, :-1]


def key(questions: Questions, below: bool = True) -> Int[Tensor, "batch n_answer"]:
    """One number, 0 to 6B - 1, for base sum, tri-state and the carry into the pair below.

    In the order base sum + B · (tri-state + 3 · carry), so base sum = key mod B. Without ``below``
    the carry is left out: 0 to 3B - 1.
    """
    whole = base_sum(questions) + questions.task.base * tri_state(questions)
    if below:
        carry = F.pad(questions.carry.long(), (1, 0))[:, :-1]
        whole = whole + 3 * questions.task.base * carry
    return whole


def second_pair_key(questions: Questions) -> Int[Tensor, "batch n_answer"]:
    """One number, 0 to 9B - 1, for base sum and the tri-states of the next two pairs down.

    Of all that decides a digit it is what these three pairs say, and so no more than what three
    heads that bring in one pair each can know.
    """
    return key(questions, below=False) + 3 * questions.task.base * tri_state_of_second(questions)


def digit_of_key(key: Int[Tensor, "*any"], base: int) -> Int[Tensor, "*any"]:
    """The answer digit that a key determines: (base sum + carry) mod B."""
    tri, below = key // base % 3, key // (3 * base)
    carry = torch.where(tri == UNDETERMINED, below, tri)
    return (key % base + carry) % base


# ------------------------------------------------------ answers of simpler algorithms
def look_back(
    questions: Questions, depth: int, guess: bool = False
) -> Int[Tensor, "batch n_answer"]:
    """Answer digits by an algorithm that finds each carry from the next ``depth`` pairs down alone.

    Below those pairs it takes no carry for granted, or with ``guess`` always one. Depth 0 ignores
    every carry, depth 1 sees a carry made by the next pair, depth 2 also one handed on by that
    pair; from depth n on the digits are those of the sum. From the top, 047 + 058 gives 0, 9, 5 at
    depth 0, 0, 0, 5 at depth 1 (with ``guess`` 1, 0, 5), and 1, 0, 5 from depth 2 on.
    """
    task = questions.task
    carry = torch.zeros_like(questions.carry)  # into each column, by the pairs seen so far
    if task.carry:
        carry[:, 1:] = guess
    pair_sum = questions.x + questions.y
    for _ in range(depth if task.carry else 0):
        carry = F.pad(pair_sum + carry[:, :-1] >= task.base, (1, 0))
    return (base_sum(questions) + carry) % task.base


def with_pair_of(
    base: Questions, source: Questions, offsets: int | Sequence[int | None]
) -> Int[Tensor, "batch n_answer"]:
    """Answer digits as if, for each digit A_k, the pair in column k + offset were the source's.

    Only that one pair is exchanged, anew for each digit; all others are the base question's. Digits
    without such a pair keep their true value. It is what a model must answer if one of its heads
    brings in just this pair, and brings in that of another question instead.

    Args:
        base, source: as many questions of the same task.
        offsets: from -n to 0; 0 is the digit's own pair, -1 the next one down. One for all digits,
            or one for each answer column, where None exchanges nothing.

    Raises:
        ValueError: questions that don't match, or other offsets.
    """
    task = base.task
    if source.task != task or len(source) != len(base):
        raise ValueError(f"{len(source)} source questions: must be as many as base, of its task")
    if isinstance(offsets, int):
        offsets = [offsets] * task.n_answer
    below = [offset is None or -task.n_digits <= offset <= 0 for offset in offsets]
    if len(below) != task.n_answer or not all(below):
        raise ValueError(
            f"offsets = {offsets}: must be {task.n_answer} numbers from {-task.n_digits} to 0"
        )
    digits = base.answer.clone()
    for k, offset in enumerate(offsets):
        if offset is not None and 0 <= k + offset < task.n_digits:
            exchanged = torch.arange(task.n_digits, device=base.x.device) == k + offset
            x, y = (
                torch.where(exchanged, from_source, from_base)
                for from_source, from_base in ((source.x, base.x), (source.y, base.y))
            )
            digits[:, k] = Questions(task, x, y).answer[:, k]
    return digits


def mistakes(
    questions: Questions, digits: Int[Tensor, "batch n_answer"]
) -> Int[Tensor, "batch n_answer"]:
    """Code of each answer digit, a number of `MISTAKES`: which carry it lacks or has too much.

    A digit that lacks its carry is *carry ignored* where the pair below makes the carry itself,
    *cascade ignored* where that pair sums to B - 1 and hands on the carry from further down. 47 +
    85 answered as 122 → A1 carry ignored.
    """
    missing = (digits == base_sum(questions)) & questions.carry
    handed_on = tri_state(questions) == UNDETERMINED
    too_much = (digits == (base_sum(questions) + 1) % questions.task.base) & ~questions.carry
    code = torch.full_like(digits, MISTAKES.index("another digit"))
    code[missing] = MISTAKES.index("carry ignored")
    code[missing & handed_on] = MISTAKES.index("cascade ignored")
    code[too_much] = MISTAKES.index("carry invented")
    code[digits == questions.answer] = MISTAKES.index("right")
    return code

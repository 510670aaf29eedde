"""How a language model carries: cascades and twins put to it, and carries taken from other sums.

In a sum of n digits the first digit of the answer is asked for at ``=``, before any other. Whether
a carry comes in is decided by the next pair, or, where that sums to 9, by the one below it, and so
on. A *cascade* has a carry made ``down`` pairs below the top one, with sums of 9 between; its *twin*
differs in one digit there, so that none is made. A model that sees that pair gives the two
different first digits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.llm.grading import SharedStart
from addlib.llm.prompts import Form, Problem, digit_tokens, encode
from addlib.stats import d_prime
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import carry_twins

if TYPE_CHECKING:
    from addlib.llm.load import LLM


def twins(
    n_digits: int, down: int, count: int, seed: int = 0
) -> tuple[list[Problem], list[Problem]]:
    """Sums with a carry into the top pair, and their twins without; answers have n digits.

    Args:
        down: from 1 to n_digits - 1, how far below the top pair the carry is made.
        count: how many of each.
    """
    task = AdditionTask(n_digits)
    generator = torch.Generator().manual_seed(1000 * seed + 10 * n_digits + down)
    place = 10 ** torch.arange(n_digits)
    both: tuple[list[Problem], list[Problem]] = ([], [])
    while len(both[0]) < count:
        drawn = carry_twins(task, n_digits - 1, down, 4 * count, generator)
        top = (drawn[0].x[:, -1], drawn[0].y[:, -1])
        fits = (top[0] > 0) & (top[1] > 0) & (top[0] + top[1] < 9)
        for kept, asked in zip(both, drawn, strict=True):
            pairs = [
                (asked.x[fits] * place).sum(1).tolist(),
                (asked.y[fits] * place).sum(1).tolist(),
            ]
            kept.extend(zip(*pairs, strict=True))
    return both[0][:count], both[1][:count]


@torch.no_grad()
def answer_logits(
    llm: LLM, form: Form, asked: list[Problem], batch_size: int = 64
) -> tuple[Float[Tensor, "batch digit 10"], Int[Tensor, "batch digit"]]:
    """Logits of the ten digits at each place of the answer, the right ones before it given; answers.

    Both are on the CPU.

    Args:
        asked: problems of one size, whose answers have one length.
    """
    start = SharedStart(llm, form)
    due = torch.tensor([[int(digit) for digit in form.answer(problem)] for problem in asked])
    count = due.shape[1]
    tokens = encode(llm.tokenizer, [form.prompt(problem, count - 1) for problem in asked])
    digits = digit_tokens(llm.tokenizer)
    parts = [start(part, count).cpu()[..., digits] for part in tokens.split(batch_size)]
    return torch.cat(parts), due


@dataclass(frozen=True)
class Sight:
    """What a model writes first in cascades and in their twins, where all else is right."""

    said: Bool[Tensor, "2 pair"]  # whether own sum and one more is preferred to the own sum
    usable: Bool[Tensor, " pair"]  # all other digits are right, in both

    @classmethod
    def of(
        cls,
        cascades: tuple[Float[Tensor, "pair digit 10"], Int[Tensor, "pair digit"]],
        plain: tuple[Float[Tensor, "pair digit 10"], Int[Tensor, "pair digit"]],
    ) -> Sight:
        """From the logits and right answers of both, as :func:`answer_logits` gives them."""
        own = plain[1][:, :1]
        said = []
        usable = []
        for logits, due in (cascades, plain):
            first = logits[:, 0]
            said.append((first.gather(1, own + 1) > first.gather(1, own))[:, 0])
            usable.append((logits[:, 1:].argmax(-1) == due[:, 1:]).all(1))
        return cls(torch.stack(said), usable[0] & usable[1])

    def d_prime(self, rows: Tensor | slice = slice(None)) -> float:
        """d' of the usable pairs among some; 0 where there is none."""
        said = self.said[:, rows][:, self.usable[rows]]
        hits, alarms = said.sum(1).tolist()
        return d_prime(hits, said.shape[1], alarms, said.shape[1]) if said.shape[1] else 0.0


def carry_sources(
    count: int, same: bool = False, seed: int = 0, same_digit: bool = False
) -> tuple[list[Problem], list[Problem]]:
    """Two-digit sums and, for each, another one whose carry differs (or is the same).

    Both pairs of digits have other sums in the other one; answers have two digits.

    Args:
        same: whether the carry is the same.
        same_digit: whether both sums end in the same operand digit, so that the other number's
            digit alone makes the difference: ``27 + 46`` and ``51 + 36``.
    """
    generator = random.Random(f"{seed} {same}{' digit' if same_digit else ''}")
    base: list[Problem] = []
    source: list[Problem] = []
    while len(base) < count:
        a, b, c, d = (generator.randint(10, 89) for _ in range(4))
        if same_digit:
            d += b % 10 - d % 10
        tens = [x // 10 + y // 10 for x, y in ((a, b), (c, d))]
        units = [x % 10 + y % 10 for x, y in ((a, b), (c, d))]
        agree = (units[0] > 9) == (units[1] > 9)
        differ = tens[0] != tens[1] and units[0] != units[1] and a // 10 != c // 10
        if max(tens) < 9 and agree == same and differ:
            base.append((a, b))
            source.append((c, d))
    return base, source


@dataclass(frozen=True)
class Writes:
    """A metric: 1 where the likeliest of the ten digits is the one that is due, else 0."""

    digits: Int[Tensor, " 10"]  # their tokens
    due: Int[Tensor, " batch"]

    def __call__(self, logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, " batch"]:
        likeliest = logits[:, self.digits.to(logits.device)].argmax(-1)
        return (likeliest == self.due.to(logits.device)).to(logits.dtype)

"""Prompts that make a language model calculate: examples first, then a question, in tokens.

A pretrained model is told what to do by examples (few shots, Brown et al. 2020): ``6*7=42`` and the
like, one a line. Everything here rests on digits being tokens of their own, as they are for Qwen2.5
and SmolLM2: then a digit has a position, and an answer is a row of choices among ten tokens. That
is checked, prompt by prompt.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Problem = tuple[int, int]
"""Two operands."""


@dataclass(frozen=True)
class Operation:
    """What to do with two operands: a sign between them, and the right answer."""

    name: str
    sign: str
    answer: Callable[[int, int], int]


MULTIPLY = Operation("multiply", "*", operator.mul)


ADD = Operation("add", "+", operator.add)


COPY = Operation("copy", "|", lambda a, b: a)
"""Say the first operand again: same digits, same positions, nothing to calculate."""


OPERATIONS = {operation.name: operation for operation in (MULTIPLY, ADD, COPY)}


@dataclass(frozen=True)
class Form:
    """How a question is put.

    Args:
        operation: what is asked.
        shots: the examples before each question; none for zero-shot.
        template: of a question, with ``{a}``, ``{b}`` and ``{sign}``; the answer follows, without a
            space.
    """

    operation: Operation = MULTIPLY
    shots: tuple[Problem, ...] = ()
    template: str = "{a}{sign}{b}="

    def question(self, problem: Problem) -> str:
        return self.template.format(a=problem[0], b=problem[1], sign=self.operation.sign)

    def answer(self, problem: Problem) -> str:
        """The digits of the right answer."""
        return str(self.operation.answer(*problem))

    @property
    def prefix(self) -> str:
        """The examples, a line each."""
        return "".join(f"{self.question(shot)}{self.answer(shot)}\n" for shot in self.shots)

    def prompt(self, problem: Problem, digits: int = 0) -> str:
        """Examples, question, and the first ``digits`` digits of the right answer."""
        return f"{self.prefix}{self.question(problem)}{self.answer(problem)[:digits]}"


def few_shot(
    operation: Operation = MULTIPLY,
    count: int = 4,
    seed: int = 0,
    sizes: Sequence[tuple[int, int]] = ((1, 1), (2, 1)),
    template: str = "{a}{sign}{b}=",
) -> Form:
    """A form with ``count`` examples: the same ones for a seed, whatever the operation.

    Args:
        sizes: digits of both operands, in turn: example 0 has the first size, example 1 the second,
            and so on.

    Raises:
        ValueError: a count below 0, or sizes that are not at least 1.
    """
    if count < 0 or not sizes or any(digits < 1 for size in sizes for digits in size):
        raise ValueError(
            f"count = {count}, sizes = {tuple(sizes)}: must be 0 or more, and digits at least 1"
        )
    generator = random.Random(seed)
    shots: list[Problem] = []
    while len(shots) < count:
        shot = tuple(
            generator.randint(*_range(digits)) for digits in sizes[len(shots) % len(sizes)]
        )
        if shot not in shots or len(shots) > 50:
            shots.append(shot)
    return Form(operation, tuple(shots), template)


def _range(digits: int) -> tuple[int, int]:
    """Smallest and largest operand. Not 0 and 1: they leave nothing to multiply."""
    return max(2, 10 ** (digits - 1)), 10**digits - 1


def problems(
    size: tuple[int, int], count: int | None = None, seed: int = 0, without: Iterable[Problem] = ()
) -> list[Problem]:
    """Different problems of one size, uniformly drawn, in no order; fewer where there are not so
    many.

    Args:
        size: digits of the first and of the second operand; operands 0 and 1 are left out.
        count: how many; None: all.
        without: problems to leave out: a form's examples.

    Raises:
        ValueError: digits or count below 1; or all of more than 100,000.
    """
    ranges = [_range(digits) for digits in size]
    if min(size) < 1 or (count is not None and count < 1):
        raise ValueError(f"size = {size}, count = {count}: must be at least 1")
    widths = [high - low + 1 for low, high in ranges]
    total, banned = widths[0] * widths[1], set(without)
    if count is None and total > 100_000:
        raise ValueError(f"size = {size}: {total} problems are too many to take all; give a count")
    wanted = min(total, (total if count is None else count) + len(banned))
    drawn = random.Random(f"{seed} {size}").sample(range(total), wanted)
    found = [
        (ranges[0][0] + index // widths[1], ranges[1][0] + index % widths[1]) for index in drawn
    ]
    return [problem for problem in found if problem not in banned][:count]


def digit_tokens(tokenizer: PreTrainedTokenizerBase) -> Int[Tensor, " 10"]:
    """The token ids of the digits 0 to 9, as they are after a sign.

    Raises:
        ValueError: a digit is not one token of its own.
    """
    before, after = (
        tokenizer(text, add_special_tokens=False).input_ids for text in ("=", "=0123456789")
    )
    digits = after[len(before) :]
    if after[: len(before)] != before or len(digits) != 10 or len(set(digits)) != 10:
        raise ValueError(
            f"this tokenizer makes {len(digits)} tokens of the ten digits 0123456789: each digit "
            f"must be one token of "
            "its own, or answers have no digits to choose; use a model that splits numbers, as "
            "Qwen2.5 and SmolLM2 do"
        )
    return torch.tensor(digits)


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> Int[Tensor, "batch position"]:
    """Token ids of prompts, with nothing put before or after them.

    Raises:
        ValueError: no prompts, prompts of different lengths, or a digit that is not one token of
            its own.
    """
    ids = digit_tokens(tokenizer).tolist()
    if not texts:
        raise ValueError("no prompts: give at least one")
    rows = tokenizer(list(texts), add_special_tokens=False).input_ids
    for text, row in zip(texts, rows, strict=True):
        digits = [ids[int(character)] for character in text if character in "0123456789"]
        if [token for token in row if token in ids] != digits:
            shown = [tokenizer.decode([token]) for token in row]
            raise ValueError(
                f"{text!r} becomes {shown}: each digit must be one token of its own; use another "
                f"model"
            )
    lengths = {len(row): text for row, text in zip(rows, texts, strict=True)}
    if len(lengths) > 1:
        (short, one), (long, other) = min(lengths.items()), max(lengths.items())
        one, other = (text.rpartition("\n")[2] for text in (one, other))
        raise ValueError(
            f"prompts of {short} and {long} tokens in one batch ({one!r}, {other!r}): positions "
            f"would not mean the "
            "same; group problems by the digits of their operands and of their answers"
        )
    return torch.tensor(rows)


def wrong_answers(answer: int) -> dict[str, str]:
    """Answers that look like slips, by name: near misses, twice and half, digits moved or changed.

    Only those that are positive and differ from the answer; e.g. 120 → "reversed" is "021", as a
    model would write it.
    """
    digits = str(answer)
    shifted = {
        f"every digit {step:+d}": "".join(str((int(digit) + step) % 10) for digit in digits)
        for step in (1, -1)
    }
    numbers = {f"{step:+d}": answer + step for step in (1, -1, 10, -10)}
    numbers |= {"double": 2 * answer, "half": answer // 2}
    moved = {
        "reversed": digits[::-1],
        "sorted": "".join(sorted(digits)),
        "rotated left": digits[1:] + digits[:1],
        "rotated right": digits[-1:] + digits[:-1],
    }
    texts = {name: str(number) for name, number in numbers.items() if number > 0} | moved | shifted
    return {name: text for name, text in texts.items() if text != digits}

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

    sign: str
    answer: Callable[[int, int], int]


MULTIPLY = Operation("*", operator.mul)


ADD = Operation("+", operator.add)


COPY = Operation("|", lambda a, b: a)
"""Say the first operand again: same digits, same positions, nothing to calculate."""


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
        """A problem in the words of the template."""
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


SHOT_SIZES = ((1, 1), (2, 1))
"""Digits of both operands of a form's examples, in turn."""


def few_shot(
    operation: Operation = MULTIPLY,
    count: int = 4,
    seed: int = 0,
    template: str = "{a}{sign}{b}=",
) -> Form:
    """A form with ``count`` examples: the same ones for a seed, whatever the operation.

    Raises:
        ValueError: a count below 0 or above 100.
    """
    if not 0 <= count <= 100:
        raise ValueError(f"count = {count}: must be from 0 to 100")
    generator = random.Random(seed)
    shots: list[Problem] = []
    while len(shots) < count:
        a_digits, b_digits = SHOT_SIZES[len(shots) % len(SHOT_SIZES)]
        a = generator.randint(*_operands(a_digits))
        b = generator.randint(*_operands(b_digits))
        if (a, b) not in shots:
            shots.append((a, b))
    return Form(operation, tuple(shots), template)


def _operands(digits: int) -> tuple[int, int]:
    """Smallest and largest operand. Not 0 and 1: they leave nothing to multiply."""
    return max(2, 10 ** (digits - 1)), 10**digits - 1


def problems(
    size: tuple[int, int], count: int | None = None, seed: int = 0, without: Iterable[Problem] = ()
) -> list[Problem]:
    """Different problems of one size, uniformly drawn, in no order; fewer where there are fewer.

    Args:
        size: digits of the first and of the second operand; operands 0 and 1 are left out.
        count: how many; None: all.
        without: problems to leave out: a form's examples.

    Raises:
        ValueError: digits or count below 1; or all of more than 100,000.
    """
    if min(size) < 1 or (count is not None and count < 1):
        raise ValueError(f"size = {size}, count = {count}: must be at least 1")
    a_low, a_high = _operands(size[0])
    b_low, b_high = _operands(size[1])
    n_b = b_high - b_low + 1
    total = (a_high - a_low + 1) * n_b
    if count is None and total > 100_000:
        raise ValueError(f"size = {size}: {total} problems are too many to take all; give a count")
    banned = set(without)
    wanted = total if count is None else min(total, count + len(banned))
    drawn = random.Random(f"{seed} {size}").sample(range(total), wanted)
    candidates = [(a_low + index // n_b, b_low + index % n_b) for index in drawn]
    return [problem for problem in candidates if problem not in banned][:count]


def digit_tokens(tokenizer: PreTrainedTokenizerBase) -> Int[Tensor, " 10"]:
    """The token ids of the digits 0 to 9, as they are after a sign.

    Raises:
        ValueError: a digit is not one token of its own.
    """
    sign = tokenizer("=", add_special_tokens=False).input_ids
    tokens = tokenizer("=0123456789", add_special_tokens=False).input_ids
    digits = tokens[len(sign) :]
    if tokens[: len(sign)] != sign or len(digits) != 10 or len(set(digits)) != 10:
        raise ValueError(
            f"this tokenizer makes {len(digits)} tokens of the ten digits 0123456789: each digit "
            f"must be one token of its own, or answers have no digits to choose; use a model that "
            f"splits numbers, as Qwen2.5 and SmolLM2 do"
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
    lengths = {len(row): text.rpartition("\n")[2] for row, text in zip(rows, texts, strict=True)}
    if len(lengths) > 1:
        raise ValueError(
            f"prompts of different lengths in one batch, by tokens: {lengths}; positions would not "
            f"mean the same; group problems by the digits of their operands and of their answers"
        )
    return torch.tensor(rows)


PLACES = ("hundreds", "tens", "units")
"""What the digits of a number are called, the last one last."""


def question_roles(
    tokenizer: PreTrainedTokenizerBase, form: Form, size: tuple[int, int]
) -> list[str]:
    """What each token of a question is: a place of the first number, "b" for the second one, a sign.

    ``48*9=`` → tens, units, ×, b, =. A position of the question is its index here.

    Args:
        size: digits of the first number, at most three, and of the second.

    Raises:
        ValueError: more digits, or a digit that is not one token of its own.
    """
    if not 1 <= size[0] <= len(PLACES):
        raise ValueError(f"size = {size}: the first number must have 1 to {len(PLACES)} digits")
    problem = (int("4" * size[0]), int("9" * size[1]))
    tokens = encode(tokenizer, [form.question(problem)])[0]
    digits = iter([*PLACES[-size[0] :], *["b"] * size[1]])
    texts = [str(tokenizer.decode([token])).strip() for token in tokens.tolist()]
    return [next(digits) if text.isdigit() else text.replace("*", "×") for text in texts]

"""The task: n-digit addition as tokens, and the sub-task labels of every column.

Digit arrays are indexed by *column*: ``x[:, 0]`` is the units digit D0, ``x[:, n-1]`` the top digit
D(n-1). Token arrays are in reading order. Everything is integer arithmetic on tensors; nothing here
is random or learned.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from addlib.checks import check_choice, check_whole

BUCKETS = ("BA", "UC1", "US9")
"""Names of the buckets of cells and of the classes of questions, by their codes 0, 1 and 2."""


@dataclass(frozen=True)
class AdditionTask:
    """Addition of two zero-padded n-digit numbers, written ``D4…D0 + D'4…D'0 = A5…A0``.

    Args:
        n_digits: digits of each operand, at least 1 and such that every sum fits a 64-bit integer.
        base: number base, 2 to 16. Tokens 0…base-1 are digits, base is ``+``, base + 1 is ``=``.
        carry: True for ordinary addition, False for the control: digitwise sum modulo the base.
        answer_order: ``"msd"`` writes the most significant answer digit first, ``"lsd"`` the least
            significant.

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    n_digits: int = 5
    base: int = 10
    carry: bool = True
    answer_order: str = "msd"

    def __post_init__(self) -> None:
        check_whole(self, 2, "base", most=16)
        # Every sum, at most 2 · base^n - 1, fits a 64-bit integer.
        check_whole(self, 1, "n_digits", most=int(62 / math.log2(self.base)))
        check_choice(self, (True, False), "carry")
        check_choice(self, ("msd", "lsd"), "answer_order")

    @property
    def plus(self) -> int:
        """Token of ``+``."""
        return self.base

    @property
    def equals(self) -> int:
        """Token of ``=``."""
        return self.base + 1

    @property
    def d_vocab(self) -> int:
        """Vocabulary size, in and out."""
        return self.base + 2

    @property
    def n_answer(self) -> int:
        """Number of answer digits, n + 1."""
        return self.n_digits + 1

    @property
    def n_ctx(self) -> int:
        """Tokens in a question with its answer, 3n + 3."""
        return 3 * self.n_digits + 3

    @property
    def answer_positions(self) -> range:
        """Positions whose logits predict the answer digits: from ``=`` to the last but one."""
        return range(2 * self.n_digits + 1, 3 * self.n_digits + 2)

    @property
    def answer_columns(self) -> list[int]:
        """Column of the digit that each answer position predicts; n = 2, msd: [2, 1, 0]."""
        columns = list(range(self.n_answer))
        return columns[::-1] if self.answer_order == "msd" else columns

    @property
    def answer_names(self) -> list[str]:
        """Names of the answer digits in reading order: A5 … A0."""
        return [f"A{k}" for k in self.answer_columns]

    @property
    def token_names(self) -> list[str]:
        """Names of the token positions, as papers write them: D4 … D0, +, D'4 … D'0, =, A5 … A0."""
        top_down = range(self.n_digits - 1, -1, -1)
        first = [f"D{i}" for i in top_down]
        second = [f"D'{i}" for i in top_down]
        return [*first, "+", *second, "=", *self.answer_names]

    def digits(self, values: Int[Tensor, " batch"]) -> Int[Tensor, "batch n_digits"]:
        """Digits of whole numbers, units first: 463 → [3, 6, 4, 0, 0].

        Raises:
            ValueError: a number outside 0…base^n - 1.
        """
        most = self.base**self.n_digits - 1
        outside = values[(values < 0) | (values > most)]
        if len(outside):
            raise ValueError(
                f"operand {outside[0]}: must be from 0 to {most} ({self.n_digits} digits)"
            )
        powers = torch.tensor([self.base**i for i in range(self.n_digits)], device=values.device)
        return values[:, None] // powers % self.base

    def value(self, digits: Int[Tensor, "batch columns"]) -> Int[Tensor, " batch"]:
        """The whole numbers that the digits spell, units first; the inverse of :meth:`digits`."""
        powers = torch.tensor([self.base**i for i in range(digits.shape[1])], device=digits.device)
        return (digits * powers).sum(1)

    def by_column(self, values: Tensor, dim: int = 1) -> Tensor:
        """Values along the answer positions (axis ``dim``) sorted by answer column, or back."""
        return values.flip(dim) if self.answer_order == "msd" else values

    def text(self, tokens: Int[Tensor, " n_ctx"]) -> str:
        """A question as people write it: ``00047+00085=000132``; above 9 come a, b, c, …"""
        symbols = "0123456789abcdef"[: self.base] + "+="
        return "".join(symbols[t] for t in tokens.tolist())


@dataclass(frozen=True)
class Questions:
    """A batch of questions with the sub-task labels of every column.

    The names are those of Quirke & Barez (ICLR 2024). With s_i = D_i + D'_i and c_i the carry into
    column i:

    ========  ===================================  ==========================================
    label     meaning                              condition
    ========  ===================================  ==========================================
    MC1       make carry: the pair alone carries   s_i ≥ B
    MS9       make sum 9                           s_i = B - 1
    UC1       use carry                            c_i = 1
    US9       use sum 9: the carry runs through    s_i = B - 1 and c_i = 1
    ========  ===================================  ==========================================

    A column sends a carry on exactly when it is MC1 or US9.
    """

    task: AdditionTask
    x: Int[Tensor, "batch n_digits"]
    y: Int[Tensor, "batch n_digits"]

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, task: AdditionTask, pairs: list[tuple[int, int]]) -> Questions:
        """Questions from pairs of whole numbers; ValueError names one that has too many digits."""
        x, y = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
        return cls(task, task.digits(x), task.digits(y))

    @classmethod
    def read(cls, task: AdditionTask, texts: list[str]) -> Questions:
        """Questions from sums as they are written, with or without an answer: ``"55+45=100"``.

        Raises:
            ValueError: a text that is no sum of two decimal numbers, or whose answer is wrong.
        """
        pairs = []
        for text in texts:
            match = re.fullmatch(r"\s*(\d+)\s*\+\s*(\d+)\s*(?:=\s*(\d+)\s*)?", text)
            if match is None:
                raise ValueError(f"{text!r} is not a sum such as '55+45' or '55+45=100'")
            x, y = int(match[1]), int(match[2])
            if match[3] is not None and int(match[3]) != x + y:
                raise ValueError(f"{text!r}: {x} + {y} is {x + y}")
            pairs.append((x, y))
        return cls.of(task, pairs)

    def __getitem__(self, which: Tensor | slice) -> Questions:
        """Some of the questions, by a slice, their numbers, or a mask."""
        part = Questions(self.task, self.x[which], self.y[which])
        if isinstance(which, slice):  # labels that are known already, as views
            labels = {name: value for name, value in vars(self).items() if name not in vars(part)}
            vars(part).update({name: value[which] for name, value in labels.items()})
        return part

    def to(self, device: torch.device | str) -> Questions:
        """The questions on a device."""
        x, y = torch.stack([self.x, self.y]).to(device)
        return Questions(self.task, x, y)

    @cached_property
    def carry(self) -> Bool[Tensor, "batch n_answer"]:
        """c_i, the carry into column i: 47 + 85 → 0, 1, 1; all False without carrying."""
        carry = self.x.new_zeros(len(self), self.task.n_answer, dtype=torch.bool)
        if self.task.carry:
            pair_sum = self.x + self.y
            for i in range(self.task.n_digits):
                carry[:, i + 1] = pair_sum[:, i] + carry[:, i] >= self.task.base
        return carry

    @cached_property
    def answer(self) -> Int[Tensor, "batch n_answer"]:
        """Digits of the true sum, units first; without carrying the top digit is 0."""
        pair_sum = F.pad(self.x + self.y, (0, 1))  # the top column has no pair
        return (pair_sum + self.carry) % self.task.base

    @cached_property
    def tokens(self) -> Int[Tensor, "batch n_ctx"]:
        """The questions with their answers in reading order."""
        sign = self.x.new_ones(len(self), 1)
        answer = self.task.by_column(self.answer)
        parts = [self.x.flip(1), self.task.plus * sign, self.y.flip(1), self.task.equals * sign]
        return torch.cat([*parts, answer], 1)

    @cached_property
    def mc1(self) -> Bool[Tensor, "batch n_digits"]:
        return self.x + self.y >= self.task.base

    @cached_property
    def ms9(self) -> Bool[Tensor, "batch n_digits"]:
        return self.x + self.y == self.task.base - 1

    @cached_property
    def uc1(self) -> Bool[Tensor, "batch n_digits"]:
        return self.carry[:, :-1]

    @cached_property
    def us9(self) -> Bool[Tensor, "batch n_digits"]:
        return self.ms9 & self.uc1

    @cached_property
    def bucket(self) -> Int[Tensor, "batch n_digits"]:
        """Bucket of each (question, column) cell: 0 BA (no carry in), 1 UC1, 2 US9."""
        return self.uc1.long() + self.us9.long()

    @cached_property
    def us9_run(self) -> Int[Tensor, "batch n_digits"]:
        """Number of adjacent US9 columns that end at each column; 0 where it is not US9."""
        run = self.us9.long()
        for i in range(1, self.task.n_digits):
            run[:, i] *= run[:, i - 1] + 1
        return run

    @cached_property
    def cascade_length(self) -> Int[Tensor, " batch"]:
        """Longest run of adjacent US9 columns: 0 none, 1 a simple US9, 2 or more a cascade."""
        return self.us9_run.amax(1)

    @cached_property
    def question_class(self) -> Int[Tensor, " batch"]:
        """Class of each question: 0 BA (no carry anywhere), 1 UC1 (some carry, no US9), 2 US9."""
        return self.carry.any(1).long() + self.us9.any(1).long()

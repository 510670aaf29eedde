"""The task: n-digit addition as tokens, its sub-tasks per column, and questions to train and test
on.

Digit arrays are indexed by *column*: ``x[:, 0]`` is the units digit D0, ``x[:, n-1]`` the top digit
D(n-1). Token arrays are in reading order. Everything is integer arithmetic on tensors; nothing here
is random or learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

BUCKETS = ("BA", "UC1", "US9")
"""Names of the buckets of cells and of the classes of questions, in the order of their codes 0, 1,
2.
"""


LARGEST_INT64 = 2**63 - 1


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
        if not isinstance(self.base, int) or not 2 <= self.base <= 16:
            raise ValueError(f"base = {self.base!r}: must be a whole number from 2 to 16")
        if not isinstance(self.n_digits, int) or self.n_digits < 1:
            raise ValueError(f"n_digits = {self.n_digits!r}: must be a whole number of at least 1")
        if 2 * self.base**self.n_digits - 1 > LARGEST_INT64:
            most = max(n for n in range(1, 64) if 2 * self.base**n - 1 <= LARGEST_INT64)
            raise ValueError(
                f"n_digits = {self.n_digits}: sums in base {self.base} fit a 64-bit integer up to "
                f"n_digits = {most}"
            )
        if not isinstance(self.carry, bool):
            raise ValueError(f"carry = {self.carry!r}: must be True or False")
        if self.answer_order not in ("msd", "lsd"):
            raise ValueError(f"answer_order = {self.answer_order!r}: must be 'msd' or 'lsd'")

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
        """Positions whose logits predict the answer digits: ``=`` and all answer tokens but the
        last.
        """
        return range(2 * self.n_digits + 1, 3 * self.n_digits + 2)

    @property
    def answer_columns(self) -> list[int]:
        """Column of the answer digit that each answer position predicts; n = 5, msd: [5, 4, 3, 2,
        1, 0].
        """
        columns = list(range(self.n_answer))
        return columns[::-1] if self.answer_order == "msd" else columns

    @cached_property
    def token_names(self) -> list[str]:
        """Names of the token positions, as papers write them: D4 … D0, +, D'4 … D'0, =, A5 … A0."""
        top_down = range(self.n_digits - 1, -1, -1)
        return (
            [f"D{i}" for i in top_down]
            + ["+"]
            + [f"D'{i}" for i in top_down]
            + ["="]
            + [f"A{i}" for i in self.answer_columns]
        )

    def digits(self, values: Int[Tensor, " batch"]) -> Int[Tensor, "batch n_digits"]:
        """Digits of whole numbers, units first (463 → [3, 6, 4, 0, 0]). Raises ValueError outside
        0…base^n - 1.
        """
        values = torch.as_tensor(values, dtype=torch.int64)
        if values.numel() and (values.min() < 0 or values.max() >= self.base**self.n_digits):
            bad = values[(values < 0) | (values >= self.base**self.n_digits)][0].item()
            raise ValueError(
                f"operand {bad}: must be from 0 to {self.base**self.n_digits - 1} ({self.n_digits} "
                f"digits)"
            )
        powers = torch.tensor([self.base**i for i in range(self.n_digits)], device=values.device)
        return values[:, None] // powers % self.base

    def value(self, digits: Int[Tensor, "batch columns"]) -> Int[Tensor, " batch"]:
        """The whole numbers that the digits spell, units first; the inverse of :meth:`digits`."""
        powers = torch.tensor([self.base**i for i in range(digits.shape[1])], device=digits.device)
        return (digits * powers).sum(1)

    def carries(
        self, x: Int[Tensor, "batch n_digits"], y: Int[Tensor, "batch n_digits"]
    ) -> Bool[Tensor, "batch n_answer"]:
        """Carry c_i into each column i = 0…n (47 + 85 → c_0, c_1, c_2 = 0, 1, 1); all False without
        carrying.
        """
        carry = torch.zeros(len(x), self.n_answer, dtype=torch.bool, device=x.device)
        if self.carry:
            pair_sum = x + y
            for i in range(self.n_digits):
                carry[:, i + 1] = pair_sum[:, i] + carry[:, i] >= self.base
        return carry

    def answer(
        self, x: Int[Tensor, "batch n_digits"], y: Int[Tensor, "batch n_digits"]
    ) -> Int[Tensor, "batch n_answer"]:
        """Digits of the sum, units first; without carrying the top digit is 0."""
        return self._answer(x, y, self.carries(x, y))

    def _answer(self, x: Tensor, y: Tensor, carry: Tensor) -> Tensor:
        pair_sum = torch.nn.functional.pad(
            x + y, (0, 1)
        )  # (batch, n + 1): the top column has no pair
        return (pair_sum + carry) % self.base

    def encode(
        self, x: Int[Tensor, "batch n_digits"], y: Int[Tensor, "batch n_digits"]
    ) -> Int[Tensor, "batch n_ctx"]:
        """Tokens of the questions with their true answers, in reading order."""
        return self._encode(x, y, self.answer(x, y))

    def _encode(self, x: Tensor, y: Tensor, answer: Tensor) -> Tensor:
        column = x.new_empty(len(x), 1)
        if self.answer_order == "msd":
            answer = answer.flip(1)
        return torch.cat(
            [
                x.flip(1),
                torch.full_like(column, self.plus),
                y.flip(1),
                torch.full_like(column, self.equals),
                answer,
            ],
            1,
        )

    def decode(
        self, tokens: Int[Tensor, "batch n_ctx"]
    ) -> tuple[
        Int[Tensor, "batch n_digits"], Int[Tensor, "batch n_digits"], Int[Tensor, "batch n_answer"]
    ]:
        """Digits x, y and the written answer, units first; the inverse of :meth:`encode`. Checks
        the signs' places.
        """
        n = self.n_digits
        signs = tokens.new_tensor([self.plus, self.equals])
        if tokens.shape[1] != self.n_ctx or (tokens[:, [n, 2 * n + 1]] != signs).any():
            raise ValueError(
                f"tokens of shape {tuple(tokens.shape)}: not questions of the form "
                f"{self.token_names}"
            )
        answer = tokens[:, 2 * n + 2 :]
        return (
            tokens[:, :n].flip(1),
            tokens[:, n + 1 : 2 * n + 1].flip(1),
            answer.flip(1) if self.answer_order == "msd" else answer,
        )

    def by_column(self, values: Tensor, dim: int = 1) -> Tensor:
        """Values along the answer positions in reading order, ``dim`` being their axis, sorted by
        answer column.
        """
        return values.flip(dim) if self.answer_order == "msd" else values

    def question(self, x: int, y: int) -> Int[Tensor, "1 n_ctx"]:
        """Tokens of one question given as whole numbers, e.g. ``task.question(47, 85)``."""
        return self.encode(self.digits(torch.tensor([x])), self.digits(torch.tensor([y])))

    def text(self, tokens: Int[Tensor, " n_ctx"]) -> str:
        """A question as people write it, e.g. ``00047+00085=000132``; digits above 9 are a, b, c, …"""
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
        """Questions from pairs of whole numbers; ValueError names an operand that has too many
        digits.
        """
        x, y = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
        return cls(task, task.digits(x), task.digits(y))

    def __getitem__(self, which: Tensor | slice) -> Questions:
        """Some of the questions, by a slice, their numbers, or a mask."""
        return Questions(self.task, self.x[which], self.y[which])

    @cached_property
    def carry(self) -> Bool[Tensor, "batch n_answer"]:
        """c_i, the carry into column i."""
        return self.task.carries(self.x, self.y)

    @cached_property
    def answer(self) -> Int[Tensor, "batch n_answer"]:
        """Digits of the true sum, units first."""
        return self.task._answer(self.x, self.y, self.carry)

    @cached_property
    def tokens(self) -> Int[Tensor, "batch n_ctx"]:
        """The questions with their answers in reading order."""
        return self.task._encode(self.x, self.y, self.answer)

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
        """The one bucket of each (question, column) cell: 0 BA (no carry in), 1 UC1 (carry in, not
        MS9), 2 US9.
        """
        return self.uc1.long() + self.us9.long()

    @cached_property
    def us9_run(self) -> Int[Tensor, "batch n_digits"]:
        """Number of adjacent US9 columns that end at each column, itself included; 0 where the
        column is not US9.
        """
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

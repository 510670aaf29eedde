"""What attention writes at one answer position of a one-layer model, as small exact tables.

Before the MLP nothing exists but scores and values: a score has only a query row and a key row as
arguments, a value only its key row, and a row is a token at a position. At the position that
predicts A_k there is one query row for each digit that may have been written before, and a row for
each digit at each position to its left. So a few thousand scores and a few hundred vectors say all
that attention can ever write there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.models.bridge import weights
from addlib.models.fast_addition import FastForward, with_ones
from addlib.tasks.addition import AdditionTask, Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class AttentionTables:
    """Scores and values at the position that predicts A_k, on the CPU.

    Args:
        task: of the model. k: the answer column.
        scores: of each head, by query row and key row.
        values: what each head writes if it attends to this row alone.
        own: what stands in the residual stream besides, by query row.
        first: the row of token 0 at each position up to the query's.
        first_token: the query token of the first query row.
    """

    task: AdditionTask
    k: int
    scores: Float[Tensor, "heads queries rows"]
    values: Float[Tensor, "heads rows dims"]
    own: Float[Tensor, "queries dims"]
    first: Int[Tensor, " keys"]
    first_token: int

    @classmethod
    @torch.no_grad()
    def of(cls, model: TransformerBridge, task: AdditionTask, k: int) -> AttentionTables:
        """The tables of a one-layer model, on the CPU; ValueError where it has more layers."""
        forward = FastForward(weights(model), model.cfg, task)
        table, scaled, basis = forward.tables()
        position = task.answer_positions[task.answer_columns.index(k)]
        rows = forward.rows
        is_query = rows.sources[:, task.d_vocab + position] > 0
        seen = rows.sources[:, task.d_vocab : task.d_vocab + position + 1].any(1)
        query = is_query.nonzero()[:, 0]
        heads = model.cfg.n_heads
        written = basis[: heads * scaled.shape[1]].unflatten(0, (heads, -1))
        beside = basis[heads * scaled.shape[1] :]
        own = with_ones(rows.sources[query]) @ beside
        return cls(
            task,
            k,
            table[:, query - rows.first_query][:, :, seen].cpu(),
            (scaled[seen] @ written).cpu(),
            own.cpu(),
            rows.first[: position + 1].cpu(),
            int((query[0] - rows.first[position]).item()),
        )

    def along(self, directions: Float[Tensor, "dims r"]) -> AttentionTables:
        """The same tables with everything projected: coordinates along directions."""
        return replace(self, values=self.values @ directions, own=self.own @ directions)

    def __call__(self, questions: Questions, batch_size: int = 8192) -> Float[Tensor, "batch dims"]:
        """The residual stream before the MLP at A_k, or its coordinates, from the tables."""
        parts = [questions[slice(i, i + batch_size)] for i in range(0, len(questions), batch_size)]
        return torch.cat([self._of_batch(part.tokens) for part in parts])

    def _of_batch(self, tokens: Int[Tensor, "batch n_ctx"]) -> Float[Tensor, "batch dims"]:
        """A softmax over looked-up scores, then the values' weighted sum."""
        row = self.first + tokens[:, : len(self.first)]  # (batch, keys)
        query = tokens[:, len(self.first) - 1] - self.first_token  # (batch,)
        weight = row.new_zeros(len(row), *self.values.shape[:2], dtype=self.values.dtype)
        for head, scores in enumerate(self.scores):
            pattern = scores[query[:, None], row].softmax(-1)
            weight[:, head].scatter_(1, row, pattern)
        return weight.flatten(1) @ self.values.flatten(0, 1) + self.own[query]

    def by_digit(
        self, j: int
    ) -> tuple[Float[Tensor, "heads 2 base"], Float[Tensor, "heads 2 base dims"]]:
        """Scores, in the mean over query rows, and values of the digits of D_j and D'_j."""
        rows = self._rows_of_pair(j)
        scores = torch.stack([self.scores[:, :, span].mean(1) for span in rows], 1)
        return scores, torch.stack([self.values[:, span] for span in rows], 1)

    def by_rule(self, columns: Sequence[int]) -> AttentionTables:
        """The same values, with a rule of two numbers a head in the place of all its scores.

        A head looks at the two digits of one pair alone. A digit's score is a slope times its
        distance from the middle, and a constant for the first number's digits; both are fitted to
        the head's own scores by least squares.

        Args:
            columns: whose pair each head looks at.
        """
        scores = torch.full_like(self.scores, -torch.inf)
        digits = torch.arange(self.task.base, dtype=scores.dtype)
        far = (digits - digits.mean()).abs()
        ones = torch.ones_like(far)
        # one row for each digit of either number: its distance, and which of the two it is in
        design = torch.stack([far.repeat(2), torch.cat([ones, 0 * ones]), ones.repeat(2)], 1)
        for head, column in enumerate(columns):
            of_pair = self.by_digit(column)[0][head].flatten()
            fitted = design @ torch.linalg.lstsq(design, of_pair).solution
            for rows, part in zip(self._rows_of_pair(column), fitted.split(len(far)), strict=True):
                scores[head, :, rows] = part
        return replace(self, scores=scores)

    def rows_of(self, position: int) -> slice:
        """The rows of all tokens that can stand at a position."""
        signs = {self.task.n_digits: self.task.plus, 2 * self.task.n_digits + 1: self.task.equals}
        start = int(self.first[position]) + signs.get(position, 0)
        return slice(start, start + (1 if position in signs else self.task.base))

    def _rows_of_pair(self, j: int) -> list[slice]:
        """The rows of D_j and of D'_j."""
        first = self.task.n_digits - 1 - j
        return [self.rows_of(position) for position in (first, first + self.task.n_digits + 1)]

"""The carry as a sum over columns: one number for each pair of digits below, and a threshold.

What the model knows of the carry into column k is nearly a plain sum: each column below has a table
of B times B numbers, its pair of digits picks one, and they are added up. If the sum exceeds a
threshold, the digit written is the own sum and one more. These tables and thresholds are a program
that needs no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.analysis.carry_plane import carry_out, own_sum
from addlib.models.attention_tables import AttentionTables
from addlib.tasks.addition import AdditionTask, Questions


@dataclass(frozen=True)
class PairTables:
    """A number, or a point, for each pair of digits of each column below column k.

    Args:
        values: ``values[j, a, b]`` is what D_j = a, D'_j = b adds.
        constant: what is always added.
    """

    values: Float[Tensor, "k base base dims"]
    constant: Float[Tensor, " dims"]

    def __call__(self, questions: Questions) -> Float[Tensor, "batch dims"]:
        """The sum over the columns below."""
        total = self.constant.expand(len(questions), -1).clone()
        for j, table in enumerate(self.values):
            total += table[questions.x[:, j], questions.y[:, j]]
        return total

    def nines_alike(self) -> PairTables:
        """The same tables without leans: all pairs of a column that sum to B - 1 add their mean."""
        base = self.values.shape[1]
        upper = torch.arange(base)
        lower = base - 1 - upper
        values = self.values.clone()
        values[:, upper, lower] = values[:, upper, lower].mean(1, keepdim=True)
        return replace(self, values=values)

    def spectrum(self) -> Float[Tensor, " directions"]:
        """Singular values of all tables together: how many directions they need."""
        return torch.linalg.svdvals(self.values.flatten(0, 2))


def fit_pair_tables(
    values: Float[Tensor, "batch dims"], questions: Questions, k: int
) -> PairTables:
    """The tables that add up to values best, by least squares; each has mean 0.

    Raises:
        ValueError: there is no column below column k.
    """
    if not 1 <= k <= questions.task.n_digits:
        raise ValueError(f"k = {k}: must be from 1 to {questions.task.n_digits}")
    base = questions.task.base
    pair = questions.x[:, :k] * base + questions.y[:, :k]
    chosen = pair + base**2 * torch.arange(k)
    size = k * base**2
    gram = torch.zeros(size, size, dtype=torch.float64)
    target = torch.zeros(size, values.shape[1], dtype=torch.float64)
    mean = values.double().mean(0)
    for j in range(k):
        target.index_add_(0, chosen[:, j], values.double() - mean)
        for i in range(k):
            counts = torch.bincount(chosen[:, j] * size + chosen[:, i], minlength=size**2)
            gram += counts.view(size, size)
    solution = torch.linalg.pinv(gram, hermitian=True) @ target
    tables = solution.view(k, base, base, -1)
    return _centred(tables, mean + tables.mean((1, 2)).sum(0), values.dtype)


def tables_from_weights(tables: AttentionTables) -> PairTables:
    """The tables that follow from scores and values alone, without asking a question.

    A head writes the sum over positions of exp(score) · value, divided by the sum of exp(score).
    For the pair in one column the parts of all other positions are replaced by their means over
    uniform digits, above and below the line, and so is the digit written before.
    """
    task, k = tables.task, tables.k
    strength = (tables.scores - tables.scores.amax((1, 2), keepdim=True)).double().exp()
    positions = [tables.rows_of(p) for p in range(len(tables.first) - 1)]
    above, below = [], []  # exp(score) · value and exp(score), by row, of each position
    for rows in positions:
        part = strength[:, :, rows]  # (heads, queries, rows)
        above.append(part[..., None] * tables.values[:, None, rows].double())
        below.append(part)
    written = torch.arange(strength.shape[1])
    own = tables.rows_of(len(tables.first) - 1).start + written  # a query also reads itself
    at_query = strength[:, written, own]
    rest_above = at_query[..., None] * tables.values[:, own].double()
    rest_above = rest_above + sum(part.mean(2) for part in above)
    rest_below = at_query + sum(part.mean(2) for part in below)
    columns = []
    for j in range(k):
        first = task.n_digits - 1 - j
        second = first + task.n_digits + 1
        over = pair_sums(above[first], above[second]) + rest_above[:, :, None, None]
        over = over - (above[first].mean(2) + above[second].mean(2))[:, :, None, None]
        under = pair_sums(below[first], below[second]) + rest_below[:, :, None, None]
        under = under - (below[first].mean(2) + below[second].mean(2))[:, :, None, None]
        columns.append((over / under[..., None]).sum(0).mean(0))
    constant = (rest_above / rest_below[..., None]).sum(0).mean(0) + tables.own.double().mean(0)
    return _centred(torch.stack(columns), constant, tables.values.dtype)


def line_from_weights(tables: PairTables, share: float = 0.5) -> Float[Tensor, " dims"]:
    """The direction in which tables differ with a carry and without, from their entries alone.

    It is what the line of :func:`addlib.analysis.carry_plane.fit_axes` is for such questions as
    :func:`addlib.tasks.sampling.nine_rich_questions` draws, if the tables add up.

    Args:
        share: of the pairs that are made to sum to B - 1.
    """
    base = tables.values.shape[1]
    above = torch.arange(base)[:, None] + torch.arange(base) - base + 1
    weight = torch.full((base, base), (1 - share) / base**2, dtype=torch.float64)
    weight[above == 0] += share / base
    nine = weight[above == 0].sum()
    direction = torch.zeros(tables.values.shape[-1], dtype=torch.float64)
    carry = torch.tensor(0.0, dtype=torch.float64)  # how probable one is into the column
    for table in tables.values.double():
        sends = torch.where(above == 0, carry, (above > 0).double())
        carry = (weight * sends).sum()
        # a column further up hands on the carry if it sums to B - 1
        direction = nine * direction + ((weight * (sends - carry))[..., None] * table).sum((0, 1))
    return F.normalize(direction, dim=0).to(tables.values.dtype)


def pair_sums(first: Tensor, second: Tensor) -> Tensor:
    """The sums of every entry of one with every entry of the other, along their third axes."""
    return first[:, :, :, None] + second[:, :, None]


def _centred(values: Tensor, constant: Tensor, dtype: torch.dtype) -> PairTables:
    """Tables of mean 0; a shift of a whole table moves no difference between its entries."""
    return PairTables((values - values.mean((1, 2), keepdim=True)).to(dtype), constant.to(dtype))


# ------------------------------------------------------------------------------ the program
def fit_thresholds(
    u: Float[Tensor, " batch"],
    own: Int[Tensor, " batch"],
    out: Bool[Tensor, " batch"],
    more: Bool[Tensor, " batch"],
    sums: int,
) -> Float[Tensor, "sums 2"]:
    """For each own sum and carry out the threshold on u that tells best where ``more`` is True.

    Args:
        sums: so many own sums there can be. One that never occurs gets the threshold of all.

    Returns:
        The middle of the first gap with the fewest disagreements.
    """

    def best(u: Tensor, more: Tensor) -> float:
        order = u.argsort()
        below = F.pad(more[order].long().cumsum(0), (1, 0))  # more, and not above the threshold
        above = (~more).sum() - F.pad((~more[order]).long().cumsum(0), (1, 0))
        cut = int((below + above).argmin())
        ends = F.pad(u[order].double(), (1, 1))
        ends[0] = ends[1] - 1
        ends[-1] = ends[-2] + 1
        return ((ends[cut] + ends[cut + 1]) / 2).item()

    theta = torch.full((sums, 2), best(u, more), dtype=torch.float64)
    for s in range(sums):
        for c in (0, 1):
            here = (own == s) & (out == bool(c))
            if here.any():
                theta[s, c] = best(u[here], more[here])
    return theta.to(u.dtype)


@dataclass(frozen=True)
class CarryProgram:
    """Addition as the model does it, from tables and thresholds alone.

    Args:
        tables: by answer column, from 1 to n; one number for each pair.
        thresholds: by answer column, then own sum and carry out.
    """

    task: AdditionTask
    tables: Mapping[int, PairTables]
    thresholds: Mapping[int, Float[Tensor, "sums 2"]]

    def margin(
        self, questions: Questions, k: int, out: Bool[Tensor, " batch"] | None = None
    ) -> Float[Tensor, " batch"]:
        """u_k less its threshold: above 0 the program writes the own sum and one more.

        Args:
            out: the carry out of column k as just written; by default the true one.
        """
        out = carry_out(questions, k) if out is None else out
        return (
            self.tables[k](questions)[:, 0] - self.thresholds[k][own_sum(questions, k), out.long()]
        )

    def predict(self, questions: Questions) -> Int[Tensor, "batch n_answer"]:
        """The digits that the program writes from the top down, each told of the one before."""
        carries = torch.zeros_like(questions.carry)
        out = carries[:, 0]
        for k in range(self.task.n_digits, 0, -1):
            out = self.margin(questions, k, out) > 0
            carries[:, k] = out
        return with_carries(questions, carries)


def with_carries(
    questions: Questions, carries: Bool[Tensor, "batch n_answer"]
) -> Int[Tensor, "batch n_answer"]:
    """The digits of a sum whose carries are told: (own sum + carry) mod B in each column."""
    pair_sum = F.pad(questions.x + questions.y, (0, 1))
    return (pair_sum + carries) % questions.task.base

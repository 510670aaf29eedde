"""Where a one-layer model keeps the carry: axes and plane before the MLP, and what they decide.

At the position that predicts A_k the residual stream before the MLP is what attention wrote. A part
of it goes with the digit's own sum; the rest, R, holds what the model knows of the carry into column
k. Regressed on the *states* of the pairs below (sum below, at or above B - 1), it has one vector for
each pair, its *axis*; those of the next two pairs down span the *plane*. The *line* is the direction
of the mean difference with a carry and without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.models.attention_tables import AttentionTables
from addlib.models.bridge import weights
from addlib.models.fast_addition import EPS
from addlib.tasks.addition import Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


# ------------------------------------------------------------ what a question puts there
def own_sum(questions: Questions, k: int) -> Int[Tensor, " batch"]:
    """s_k, from 0 to 2B - 2; 0 for the top digit, which has no pair."""
    if k == questions.task.n_digits:
        return questions.x.new_zeros(len(questions))
    return questions.x[:, k] + questions.y[:, k]


def states_below(questions: Questions, k: int) -> Int[Tensor, "batch k"]:
    """States of the pairs below column k, the next one first: -1, 0 or 1 for below, at, above B - 1.

    For A2 of 247 + 185: 4 + 8 is above 9 and 7 + 5 too, so 1, 1.
    """
    sums = questions.x[:, :k] + questions.y[:, :k]
    return (sums - questions.task.base + 1).sign().flip(1)


def carry_out(questions: Questions, k: int) -> Bool[Tensor, " batch"]:
    """The carry out of column k: what the digit written before A_k tells. None at the top digit."""
    if k == questions.task.n_digits:
        return questions.x.new_zeros(len(questions), dtype=torch.bool)
    return questions.carry[:, k + 1]


def cell(questions: Questions, k: int) -> Int[Tensor, " batch"]:
    """Which of nine cells, 3 · (state below + 1) + (state two below + 1); 4 is the centre.

    A pair that isn't there makes no carry.
    """
    states = F.pad(states_below(questions, k), (0, 2), value=-1)
    return 3 * (states[:, 0] + 1) + states[:, 1] + 1


CENTRE = 4
"""The cell where both pairs sum to B - 1 and the carry comes from further down."""


@dataclass(frozen=True)
class CarrySample:
    """What a model does at A_k with a sample of questions.

    Args:
        resid_mid: the residual stream before the MLP. digits: what the model writes.
    """

    questions: Questions
    k: int
    resid_mid: Float[Tensor, "batch d_model"]
    digits: Int[Tensor, " batch"]

    @cached_property
    def own(self) -> Int[Tensor, " batch"]:
        """The own sum."""
        return own_sum(self.questions, self.k)

    @cached_property
    def out(self) -> Bool[Tensor, " batch"]:
        """The carry out of column k."""
        return carry_out(self.questions, self.k)

    @cached_property
    def groups(self) -> Int[Tensor, " batch"]:
        """A number for own sum and carry out together, 2 · own + out."""
        return 2 * self.own + self.out

    @cached_property
    def more(self) -> Bool[Tensor, " batch"]:
        """Whether the model writes the own sum and one more."""
        return self.digits == (self.own + 1) % self.questions.task.base

    @cached_property
    def wrong(self) -> Bool[Tensor, " batch"]:
        """Whether the digit is wrong."""
        return self.digits != self.questions.answer[:, self.k]

    @cached_property
    def cells(self) -> Int[Tensor, " batch"]:
        """The cells, from 0 to 8."""
        return cell(self.questions, self.k)

    @cached_property
    def in_centre(self) -> Bool[Tensor, " batch"]:
        """Whether both pairs sum to B - 1."""
        return self.cells == CENTRE


# ------------------------------------------------------------------------- axes and plane
@dataclass(frozen=True)
class CarryAxes:
    """The carry into column k as directions of the residual stream before the MLP.

    Args:
        own: the own sum's part, one vector for each sum.
        axes: one vector for each pair below, the next one first: what one step of its state adds.
        line: unit vector from the mean of R without a carry to that with one.
    """

    own: Float[Tensor, "sums d_model"]
    axes: Float[Tensor, "k d_model"]
    line: Float[Tensor, " d_model"]

    @property
    def plane(self) -> Float[Tensor, "d_model axes"]:
        """Orthonormal basis of the first two axes: the first, and what the second adds to it.

        Of A1, which has one pair below, the first alone.
        """
        basis = torch.linalg.qr(self.axes[:2].T).Q
        return basis * (basis * self.axes[:2].T).sum(0).sign()

    @property
    def lengths(self) -> Float[Tensor, " k"]:
        """Length of each axis, in units of the residual stream."""
        return self.axes.norm(dim=1)

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the first two axes."""
        return F.cosine_similarity(self.axes[0], self.axes[1], dim=0).item()

    def rest(
        self, resid_mid: Float[Tensor, "batch d_model"], own: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch d_model"]:
        """R: the residual stream less the part of the own sum."""
        return resid_mid - self.own[own]


def fit_axes(resid_mid: Float[Tensor, "batch d_model"], questions: Questions, k: int) -> CarryAxes:
    """Axes and line of A_k by least squares, on the own sum as a category and the states below.

    Raises:
        ValueError: there is no pair below column k.
    """
    if not 1 <= k <= questions.task.n_digits:
        raise ValueError(f"k = {k}: must be from 1 to {questions.task.n_digits}")
    kinds = 1 if k == questions.task.n_digits else 2 * questions.task.base - 1
    carry = questions.carry[:, k]
    own_kind = F.one_hot(own_sum(questions, k), kinds)
    columns = [own_kind, states_below(questions, k), carry[:, None], ~carry[:, None]]
    design = torch.cat(columns, 1).to(resid_mid)
    products = (design.T @ design).double()
    target = (design.T @ resid_mid).double()
    regressed = slice(0, kinds + k)
    inverse = torch.linalg.pinv(products[regressed, regressed], hermitian=True)
    solution = inverse @ target[regressed]
    own = solution[:kinds]
    with_and_without = products[kinds + k :, :kinds]  # how often each own sum occurs in either
    rest = (target[kinds + k :] - with_and_without @ own) / with_and_without.sum(1, keepdim=True)
    own, axes, rest = (part.to(resid_mid) for part in (own, solution[kinds:], rest))
    return CarryAxes(own, axes, F.normalize(rest[0] - rest[1], dim=0))


def readout_line(sample: CarrySample, axes: CarryAxes, count: int = 3) -> Float[Tensor, " d_model"]:
    """The direction, among those of the first axes, that tells best what the model writes.

    It is that of a logistic regression. Where the model always writes the same, it is the line.

    Args:
        count: so many axes.
    """
    from sklearn.linear_model import LogisticRegression

    if sample.more.unique().numel() < 2:
        return axes.line
    basis = torch.linalg.qr(axes.axes[:count].T).Q
    spread = axes.rest(sample.resid_mid, sample.own) @ basis
    fitted = LogisticRegression(C=10).fit(spread.numpy(), sample.more.numpy())
    return F.normalize(basis @ torch.tensor(fitted.coef_[0]).to(basis), dim=0)


def axes_by_head(
    tables: AttentionTables, axes: CarryAxes, questions: Questions
) -> Float[Tensor, "heads 2"]:
    """The share of each of the first two axes that each head writes.

    A head's own axes are fitted to what it writes alone, and projected on the whole ones. What a
    column lacks to 1 comes with the digit written before, by its token's embedding.
    """
    shares = []
    for head in range(len(tables.values)):
        values = torch.zeros_like(tables.values)
        values[head] = tables.values[head]
        written = replace(tables, values=values, own=torch.zeros_like(tables.own))
        alone = fit_axes(written(questions), questions, tables.k)
        shares.append((alone.axes[:2] * axes.axes[:2]).sum(1) / axes.lengths[:2].square())
    return torch.stack(shares)


def share_between(points: Float[Tensor, "batch d"], groups: Int[Tensor, " batch"]) -> float:
    """Share of the points' variance that lies between the groups' means, from 0 to 1."""
    wide = points.double()
    _, index = groups.unique(return_inverse=True)
    count = torch.bincount(index).double()
    mean = wide.new_zeros(len(count), wide.shape[1]).index_add(0, index, wide) / count[:, None]
    within = (wide - mean[index]).square().sum()
    return 1 - (within / (wide - wide.mean(0)).square().sum()).item()


# ------------------------------------------------------------------- from there to the digit
@torch.no_grad()
def logits_after(
    model: TransformerBridge, resid_mid: Float[Tensor, "batch d_model"], batch_size: int = 4096
) -> Float[Tensor, "batch d_vocab"]:
    """Logits of a one-layer model from its residual stream before the MLP, on the CPU.

    It is the rest of the forward, at one position: LayerNorm, MLP, LayerNorm, unembedding.
    """
    w = weights(model)
    size = resid_mid.shape[1:]

    def rest_of_forward(x: Tensor) -> Tensor:
        read = F.layer_norm(x, size, w["blocks.0.ln2.weight"], w["blocks.0.ln2.bias"], EPS)
        hidden = F.linear(read, w["blocks.0.mlp.in.weight"], w["blocks.0.mlp.in.bias"]).relu()
        x = x + F.linear(hidden, w["blocks.0.mlp.out.weight"], w["blocks.0.mlp.out.bias"])
        final = F.layer_norm(x, size, w["ln_final.weight"], w["ln_final.bias"], EPS)
        return F.linear(final, w["unembed.weight"])

    device = w["unembed.weight"].device
    return torch.cat(
        [rest_of_forward(part.to(device)).cpu() for part in resid_mid.split(batch_size)]
    )


def exchanged(
    resid_mid: Float[Tensor, "batch d_model"],
    source: Float[Tensor, "batch d_model"],
    directions: Float[Tensor, "d_model r"],
) -> Float[Tensor, "batch d_model"]:
    """The residual streams with their coordinates in some directions taken from the sources.

    Args:
        directions: orthonormal.
    """
    return resid_mid + (source - resid_mid) @ directions @ directions.T


def placed(
    resid_mid: Float[Tensor, "batch d_model"],
    coordinates: Float[Tensor, "batch r"],
    directions: Float[Tensor, "d_model r"],
) -> Float[Tensor, "batch d_model"]:
    """The residual streams with these coordinates in some orthonormal directions."""
    return resid_mid + (coordinates - resid_mid @ directions) @ directions.T


def directions_outside(
    rows: Float[Tensor, "n d_model"], basis: Float[Tensor, "d_model r"], count: int
) -> Float[Tensor, "d_model count"]:
    """The principal components of rows outside of some orthonormal directions, largest first."""
    beyond = rows - rows.mean(0)
    beyond = beyond - beyond @ basis @ basis.T
    return torch.linalg.eigh(beyond.T @ beyond).eigenvectors.flip(1)[:, :count]


def crosses_once(
    model: TransformerBridge,
    sample: CarrySample,
    line: Float[Tensor, " d_model"],
    u: Float[Tensor, " batch"],
    values: Float[Tensor, " value"],
) -> Bool[Tensor, " batch"]:
    """Whether a digit changes exactly once, from own sum to one more, as u takes rising values.

    Args:
        u: the position along the line, whose place the values take; all else stays.
    """
    base = sample.questions.task.base
    above = []  # 0 where the own sum is written, 1 where one more
    for value in values:
        stream = sample.resid_mid + (value - u)[:, None] * line
        above.append((logits_after(model, stream).argmax(-1) - sample.own) % base)
    steps = torch.stack(above)
    once = (steps[1:] != steps[:-1]).sum(0) == 1
    return once & (steps[0] == 0) & (steps[-1] == 1)


def half_grown(steps: Sequence[int], lengths: Sequence[float]) -> float:
    """The step at which a length reaches half of its last value, straight between two steps."""
    half = lengths[-1] / 2
    after = next(i for i, length in enumerate(lengths) if length >= half)
    if after == 0:
        return float(steps[0])
    share = (half - lengths[after - 1]) / (lengths[after] - lengths[after - 1])
    return steps[after - 1] + share * (steps[after] - steps[after - 1])


def partners(groups: Int[Tensor, " batch"], generator: torch.Generator) -> Int[Tensor, " batch"]:
    """For each question another one of its group, at random; alone in a group, it is its own."""
    order = torch.randperm(len(groups), generator=generator)
    order = order[groups[order].argsort(stable=True)]
    by_group = groups[order]
    first = torch.searchsorted(by_group, by_group)
    last = torch.searchsorted(by_group, by_group, right=True) - 1
    following = torch.arange(len(groups)) + 1
    following = torch.where(following > last, first, following)
    partner = torch.empty_like(order)
    partner[order] = order[following]
    return partner

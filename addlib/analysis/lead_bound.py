"""How far ahead an answer digit is at least, over all questions that share the digits in sight.

A sample can't say what holds for all 10¹⁰ sums. But a one-layer model's answer digit depends on the
tokens before it through one softmax a head, and most of them get little attention. So a few tokens
are *known* and enumerated, and the others are bounded: whatever they are, each head's output is a
weighted mean whose scores and values stand in small exact tables
(:class:`~addlib.models.attention_tables.AttentionTables`). The largest value of such a mean along
any one direction can be found exactly. From these ranges follow those of the MLP's neurons. A neuron
that is on, or off, throughout its range is linear there; the others get a linear bound. What is left
is one linear function of the heads' outputs, whose smallest value is found in the same way.
(Linear bounds of neurons: Zhang et al. 2018.)

Nothing here is rounded in the safe direction: leads within rounding, far below a hundredth of a nat,
prove nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.models.attention_tables import AttentionTables
from addlib.models.bridge import weights
from addlib.models.fast_addition import EPS, centred
from addlib.tasks.addition import AdditionTask, Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

ROUNDS = (0, 1, 2)
"""Improvements of each extreme of a mean; more are tried only where fewer prove nothing."""


@dataclass(frozen=True)
class Means:
    """All that a head's weighted mean can be, one for each head, where some tokens are free.

    Args:
        weight: of the known rows together, by head.
        total: weighted values of the known rows, by head and direction.
        free_weight: of each token at each free place.
        free_total: weighted values of each token at each free place.
        rounds: improvements of each extreme; the bound is sound after any number.
    """

    weight: Float[Tensor, " heads"]
    total: Float[Tensor, "heads directions"]
    free_weight: Float[Tensor, "heads places tokens"]
    free_total: Float[Tensor, "heads places tokens directions"]
    rounds: int

    def most(self) -> Float[Tensor, " directions"]:
        """An upper bound, exact after a few rounds, of the sum over heads along each direction.

        A mean N/W is at most m where N - m W is at most 0, whatever the tokens are; the tokens that
        make N - m W largest can be chosen place by place, and give a better m (Dinkelbach 1967).
        """
        free_weight = self.free_weight[..., None].expand_as(self.free_total)
        mean = self.total / self.weight[:, None]
        for _ in range(self.rounds):
            gain = self.free_total - mean[:, None, None] * free_weight
            chosen = gain.argmax(2, keepdim=True)
            chosen_total = self.free_total.gather(2, chosen).sum((1, 2))
            chosen_weight = free_weight.gather(2, chosen).sum((1, 2))
            mean = (self.total + chosen_total) / (self.weight[:, None] + chosen_weight)
        gain = (self.free_total - mean[:, None, None] * free_weight).amax(2).sum(1)
        left = (self.total - mean * self.weight[:, None] + gain).clamp(min=0)
        least_weight = self.weight + self.free_weight.amin(2).sum(1)
        return (mean + left / least_weight[:, None]).sum(0)

    def along(self, vectors: Float[Tensor, "dims others"], dims: int) -> Means:
        """The same, projected: along combinations of the first so many directions."""
        total = self.total[:, :dims] @ vectors
        return replace(self, total=total, free_total=self.free_total[..., :dims] @ vectors)

    def least(self) -> Float[Tensor, " directions"]:
        """A lower bound of the sum over heads along each direction."""
        return -replace(self, total=-self.total, free_total=-self.free_total).most()


class LeadBound:
    """Lower bounds of the lead of the digit A_k over all others, in nats.

    Args:
        model: of one layer with an MLP. task: its own. k: the answer column.
    """

    @torch.no_grad()
    def __init__(self, model: TransformerBridge, task: AdditionTask, k: int) -> None:
        w = {name: value.detach().cpu() for name, value in weights(model).items()}
        self.tables = AttentionTables.of(model, task, k)
        self.task = task
        self.into = w["blocks.0.mlp.in.weight"] * w["blocks.0.ln2.weight"]
        self.shift = w["blocks.0.mlp.in.bias"]
        self.shift = self.shift + w["blocks.0.mlp.in.weight"] @ w["blocks.0.ln2.bias"]
        self.out = centred(w["blocks.0.mlp.out.weight"].T).T
        self.out_shift = centred(w["blocks.0.mlp.out.bias"][None])[0]
        self.unembed = w["unembed.weight"] * w["ln_final.weight"]
        self.constant = w["unembed.weight"] @ w["ln_final.bias"]
        # Along the residual stream's own axes, then along the neurons' inputs.
        self.values = self._images(centred(self.tables.values))
        self.own = self._images(centred(self.tables.own))

    def _images(self, vectors: Float[Tensor, "*n dims"]) -> Float[Tensor, "*n directions"]:
        return torch.cat([vectors, vectors @ self.into.T], -1)

    @torch.no_grad()
    def __call__(self, tokens: Int[Tensor, " keys"], digit: int, splits: int = 0) -> float:
        """The least lead of a digit over all questions with these tokens; -inf if none is proved.

        A lead that only the last LayerNorm's bias gives is not proved.

        Args:
            tokens: from the first to the one from which A_k is predicted; -1 where any digit may
                stand.
            digit: the answer digit whose lead it is.
            splits: where nothing is proved, so many free places are gone through digit by digit,
                first the one that can get the most attention.
        """
        tokens = tokens.cpu()
        means, own = self._means(tokens)
        for rounds in ROUNDS:
            lead = self._lead(replace(means, rounds=rounds), own, digit)
            if lead > 0:
                return lead
        free = (tokens < 0).nonzero()[:, 0]
        if splits == 0 or len(free) == 0:
            return lead
        place = free[means.free_weight.sum(2).amax(0).argmax()]
        for token in range(self.task.base):
            one = tokens.clone()
            one[place] = token
            least = self(one, digit, splits - 1)
            lead = least if token == 0 else min(lead, least)
            if lead <= 0:
                break
        return lead

    def _lead(self, means: Means, own: Float[Tensor, " directions"], digit: int) -> float:
        dims = self.out.shape[0]
        low = means.least() + own
        high = means.most() + own
        smallest = torch.maximum(low, -high).clamp(min=0)[:dims]
        largest = torch.maximum(high, -low)[:dims]
        sigmas = [(size.square().mean() + EPS).sqrt() for size in (smallest, largest)]
        ends = torch.stack([sigma * self.shift for sigma in sigmas])
        low_in = low[dims:] + ends.amin(0)
        high_in = high[dims:] + ends.amax(0)

        others = torch.arange(self.task.d_vocab) != digit
        lead = self.unembed[digit] - self.unembed[others]  # (others, dims)
        slope, constant = relu_bound(lead @ self.out, low_in, high_in)
        by_sigma = []
        for sigma in sigmas:  # the lead times sigma is linear in it, so least at one end
            along = sigma * lead + slope @ self.into  # (others, dims)
            fixed = sigma * (lead @ self.out_shift + slope @ self.shift) + constant
            least = means.along(along.T, dims).least()
            by_sigma.append(least + along @ own[:dims] + fixed)
        times_sigma = torch.stack(by_sigma).amin(0)
        if times_sigma.min() <= 0:
            return -torch.inf
        last = self._last_sigma(low, high, low_in.relu(), high_in.relu(), sigmas[0])
        bias = self.constant[digit] - self.constant[others]
        return (times_sigma / sigmas[1] / last + bias).min().item()

    def _means(self, tokens: Int[Tensor, " keys"]) -> tuple[Means, Float[Tensor, " directions"]]:
        """What the heads can write, and what stands in the residual stream besides."""
        tables = self.tables
        query = int(tokens[-1]) - tables.first_token
        scores = tables.scores[:, query]
        weight = (scores - scores.amax(1, keepdim=True)).exp()  # (heads, rows)
        known = (tables.first + tokens)[tokens >= 0]
        free = tables.first[tokens < 0, None] + torch.arange(self.task.base)
        total = weight[..., None] * self.values
        means = Means(
            weight[:, known].sum(1),
            total[:, known].sum(1),
            weight[:, free],
            total[:, free],
            rounds=0,
        )
        return means, self.own[query]

    def _last_sigma(
        self,
        low: Float[Tensor, " directions"],
        high: Float[Tensor, " directions"],
        low_relu: Float[Tensor, " neurons"],
        high_relu: Float[Tensor, " neurons"],
        sigma: Float[Tensor, ""],
    ) -> Float[Tensor, ""]:
        """An upper bound of what the final LayerNorm divides by."""
        dims = self.out.shape[0]
        positive = self.out.clamp(min=0)
        negative = self.out.clamp(max=0)
        most = high[:dims] + self.out_shift + (positive @ high_relu + negative @ low_relu) / sigma
        least = low[:dims] + self.out_shift + (positive @ low_relu + negative @ high_relu) / sigma
        return (torch.maximum(most, -least).square().mean() + EPS).sqrt()


def only_in_sight(questions: Questions, k: int) -> Int[Tensor, "batch keys"]:
    """The tokens up to the one that A_k is written from, -1 for those out of sight.

    In sight are the pairs from column k down, the signs, the top digit and the one before A_k.
    """
    task = questions.task
    position = task.answer_positions[task.answer_columns.index(k)]
    signs = [task.n_digits, 2 * task.n_digits + 1]
    seen = {*signs, signs[1] + 1, position}
    for j in range(k + 1):
        seen |= {task.n_digits - 1 - j, 2 * task.n_digits - j}
    hidden = [place for place in range(position + 1) if place not in seen]
    rows = questions.tokens[:, : position + 1].clone()
    rows[:, hidden] = -1
    return rows


def relu_bound(
    gain: Float[Tensor, "others neurons"],
    low: Float[Tensor, " neurons"],
    high: Float[Tensor, " neurons"],
) -> tuple[Float[Tensor, "others neurons"], Float[Tensor, " others"]]:
    """A linear function of z that ``gain @ relu(z)`` is never below, for z between low and high.

    A neuron that is on or off throughout is linear. Of the others relu(z) is at least 0, or z, and
    at most the line from (low, 0) to (high, high).

    Returns:
        The slopes, and the constant.
    """
    off = high <= 0
    on = low >= 0
    line = (high / (high - low)).masked_fill(off, 0).masked_fill(on, 1)
    from_below = torch.where(off | (~on & (high < -low)), 0.0, 1.0)
    slope = gain * torch.where(gain > 0, from_below, line)
    above = torch.where(on | off, torch.zeros_like(low), -line * low)
    return slope, gain.clamp(max=0) @ above

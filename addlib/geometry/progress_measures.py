"""Progress measures of modular addition: how much of the logits is the cosine formula.

The algorithm of Nanda, Chan, Lieberum, Smith & Steinhardt (ICLR 2023, arXiv 2301.05217) ends in
logits Σ_k α_k cos(ω_k (a + b - c)), with ω_k = 2πk/p and a few *key* frequencies k: all waves are
at their crest only where c = a + b mod p. The measures follow it while the model's answers are
wrong:

- *restricted*: only the logits' mean over the pairs and their waves cos ω_k (a + b), sin ω_k (a +
  b) are kept, for the key frequencies. How good is the algorithm alone?
- *excluded loss*: only those waves are removed. How good is what else there is? (On the training
  pairs.)

Both take the two waves per key frequency, like the code published with the paper; its text counts
the four products of waves of a and b that they are made of.

To keep waves of a + b is to take means over the pairs with the same *answer*. Where training pairs
are among them, a table learned by heart answers held-out pairs, too: so means are taken over
held-out pairs alone here, and over all pairs only in :func:`restricted_neurons`, as published. And
a mean over pairs is better than each of them. So there are two controls: the means with *all*
frequencies kept, and each pair's own logits, cut down to the key waves of the answer c.

Logits are (p, p, c): all p² pairs, a first. Of everything that depends on a + b mod p alone, only
one row per sum is computed, p instead of p² of them (*by sum*: row s is for all pairs with a + b ≡
s). The outputs c may be a multiple of p in number (addition without wrap-around, read with period
p). Pairs are given as numbers a · p + b. Losses are in nats, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.geometry.fourier import fourier_basis, frequency_part, row_frequencies
from addlib.models.pairs import accuracy
from addlib.stats import answer_nll


# ---------------------------------------------------------------------------- by sum
def pair_sums(p: int, modular: bool = True) -> Int[Tensor, " pairs"]:
    """a + b of all p² pairs in the order a · p + b, reduced mod p where ``modular``."""
    sums = (torch.arange(p)[:, None] + torch.arange(p)).flatten()
    return sums % p if modular else sums


def mean_by_sum(
    logits: Float[Tensor, "p p c"], pairs: Int[Tensor, " pairs"] | None = None
) -> Float[Tensor, "p c"]:
    """Mean of the logits over the p pairs of each sum a + b mod p, or over those of ``pairs``.

    A sum that has none of the pairs gets zeros.
    """
    p = len(logits)
    s = torch.arange(p, device=logits.device)
    a = s[:, None]
    b = (s - a) % p  # (a, s)
    if pairs is None:
        return logits[a, b].mean(0, dtype=torch.float64)
    counts = torch.zeros(p * p, dtype=torch.float64, device=logits.device)
    counts[pairs] = 1
    counts = counts.view(p, p)[a, b]
    total = torch.einsum("as,asc->sc", counts, logits[a, b].double())
    return total / counts.sum(0).clamp_min(1)[:, None]


def sum_waves(logits: Float[Tensor, "p p c"], frequencies: Sequence[int]) -> Float[Tensor, "p c"]:
    """The logits' part along cos ω_k (a + b) and sin ω_k (a + b) of these frequencies, by sum."""
    return _waves(mean_by_sum(logits), frequencies).sum(0)


def formula_logits(
    coefficients: Float[Tensor, " k"],
    frequencies: Sequence[int],
    p: int,
    n_outputs: int | None = None,
) -> Float[Tensor, "p c"]:
    """Σ_k α_k cos(ω_k (s - c)), by sum s; row 0 is the waves' interference, crest at c = 0."""
    distance = torch.arange(p)[:, None] - torch.arange(n_outputs or p)
    cosines = _cosines(frequencies, distance.to(coefficients.device), p)
    return torch.einsum("k,ksc->sc", coefficients.double(), cosines)


def _cosines(frequencies: Sequence[int], x: Int[Tensor, "*any"], p: int) -> Float[Tensor, "k ..."]:
    """cos ω_k x of each frequency."""
    return torch.stack([(2 * math.pi * (k * x % p).double() / p).cos() for k in frequencies])


def _waves(means: Float[Tensor, "p c"], frequencies: Sequence[int]) -> Float[Tensor, "k p c"]:
    """The part of a function of the sum along the waves of each frequency."""
    basis = fourier_basis(len(means))
    row_of = row_frequencies(len(means))
    onto = torch.stack([basis[row_of == k].T @ basis[row_of == k] for k in frequencies])
    return torch.einsum("kst,tc->ksc", onto.to(means.device), means)


# -------------------------------------------------------------------- cosine formula
@dataclass(frozen=True)
class CosineFit:
    """Least-squares fit of Σ_k α_k cos(ω_k (a + b - c)) to logits of all pairs.

    Logits count without their mean over the outputs, pair by pair: it changes no probability.
    """

    coefficients: Float[Tensor, " k"]  # α_k, in the logits' unit
    similarity: Float[Tensor, " k"]  # cosine similarity of all logits and the wave, -1 to 1
    alignment: Float[Tensor, " k"]  # the same, of the logits' part at ω_k (a + b); 0 if none
    residual_share: Float[Tensor, ""]  # squared norm that the fit leaves, 0 to 1


def fit_cosines(logits: Float[Tensor, "p p c"], frequencies: Sequence[int]) -> CosineFit:
    """Fit the cosine formula at the given frequencies."""
    # All sizes here are mean squares, over pairs and outputs.
    p = len(logits)
    logits = logits.double()
    size = (logits - logits.mean(-1, keepdim=True)).square().mean()
    means = mean_by_sum(logits)
    means = means - means.mean(-1, keepdim=True)
    by_output = means.unflatten(-1, (-1, p)).mean(-2)  # outputs one period apart
    d = torch.arange(p, device=logits.device)
    s = d[:, None]
    by_distance = by_output[s, (s - d) % p].mean(0)  # of pairs and outputs with a + b - c ≡ d
    crests = _cosines(frequencies, d, p)
    wave_size = crests.square().mean(-1)  # 1/2, or 1 at p/2
    coefficients = crests @ by_distance / (p * wave_size)
    along = coefficients * wave_size.sqrt()
    at_frequency = _waves(means, frequencies).square().mean((-2, -1))
    present = at_frequency > 1e-24 * size  # what rounding leaves of nothing is no wave
    return CosineFit(
        coefficients=coefficients,
        similarity=along / size.sqrt(),
        alignment=torch.where(present, along / at_frequency.sqrt().where(present, 1.0), 0.0),
        residual_share=(1 - along.square().sum() / size).clamp_min(0),
    )


def distance_share(logits: Float[Tensor, "p p c"], modular: bool = True) -> float:
    """Share of the logits' variance that an output's distance from the right answer explains.

    1 where all sums are alike, as on a circle, which has no ends.
    """
    p, n_outputs = logits.shape[1:]
    sums = pair_sums(p, modular).to(logits.device)
    centred = (logits - logits.mean(-1, keepdim=True)).flatten(0, 1)
    distance = torch.arange(0 if modular else 2 - 2 * p, n_outputs, device=logits.device)
    answer = sums[:, None] + distance  # (pairs, distance)
    answer = answer % n_outputs if modular else answer
    is_one = (answer >= 0) & (answer < n_outputs)
    at_distance = centred.gather(1, answer.clamp(0, n_outputs - 1)).where(is_one, 0.0)
    explained = at_distance.sum(0).square() / is_one.sum(0).clamp_min(1)
    return float(explained.sum() / centred.square().sum())


# ---------------------------------------------------------------------------- losses
def restricted_logits(
    logits: Float[Tensor, "p p c"],
    frequencies: Sequence[int],
    pairs: Int[Tensor, " pairs"] | None = None,
) -> Float[Tensor, "p c"]:
    """The key waves and the mean of ``pairs`` (default: of all), nothing else, by sum."""
    return _key_part(mean_by_sum(logits, pairs), frequencies)


def _key_part(means: Float[Tensor, "p c"], frequencies: Sequence[int]) -> Float[Tensor, "p c"]:
    return means.mean(0) + _waves(means, frequencies).sum(0)


def restricted_neurons(
    by_neurons: Float[Tensor, "p p c"], logits: Float[Tensor, "p p c"], frequencies: Sequence[int]
) -> Float[Tensor, "p c"]:
    """The published measure: only key waves of the neurons, over *all* pairs, and the mean; by sum.

    Neurons are read by fixed weights, so their waves are those of what they add to the logits.

    Args:
        by_neurons: the logits, less those of the model without its neurons.
    """
    waves = _waves(mean_by_sum(by_neurons), frequencies).sum(0)
    return logits.double().mean((0, 1)) + waves


def answer_waves(
    logits: Float[Tensor, "*pairs p"], frequencies: Sequence[int]
) -> Float[Tensor, "*pairs p"]:
    """Each pair's own logits, cut down to the waves cos ω_k c, sin ω_k c of the answer."""
    return frequency_part(logits.flatten(0, -2).T, frequencies).T.reshape(logits.shape)


def loss_by_sum(table: Float[Tensor, "p c"], pairs: Int[Tensor, " pairs"]) -> Float[Tensor, ""]:
    """Mean loss over ``pairs`` where each has the logits of its sum."""
    losses = answer_nll(table, torch.arange(len(table), device=table.device))
    return losses[pair_sums(len(table)).to(table.device)[pairs]].mean()


def right_by_sum(table: Float[Tensor, "p c"], pairs: Int[Tensor, " pairs"]) -> Float[Tensor, ""]:
    """Share of ``pairs`` answered right where each has the logits of its sum."""
    is_right = table.argmax(-1) == torch.arange(len(table), device=table.device)
    return is_right[pair_sums(len(table)).to(table.device)[pairs]].double().mean()


def formula_loss(
    logits: Float[Tensor, "p p c"], frequencies: Sequence[int], pairs: Int[Tensor, " pairs"]
) -> Float[Tensor, ""]:
    """Mean loss over ``pairs`` when the fitted cosine formula takes the logits' place."""
    fit = fit_cosines(logits, frequencies)
    return loss_by_sum(formula_logits(fit.coefficients, frequencies, *logits.shape[1:]), pairs)


def excluded_loss(
    logits: Float[Tensor, "p p c"], frequencies: Sequence[int], pairs: Int[Tensor, " pairs"]
) -> Float[Tensor, ""]:
    """Mean loss over ``pairs``, as a rule the training pairs, without the key waves."""
    sums = pair_sums(len(logits)).to(logits.device)[pairs]
    without = logits.flatten(0, 1)[pairs] - sum_waves(logits, frequencies)[sums]
    return answer_nll(without, sums).mean()


# ----------------------------------------------------------------------- checkpoints
@dataclass(frozen=True)
class Progress:
    """The measures at each checkpoint; losses in nats."""

    train_loss: Float[Tensor, " checkpoint"]
    test_loss: Float[Tensor, " checkpoint"]
    test_accuracy: Float[Tensor, " checkpoint"]  # share of the held-out pairs answered right
    # The same with means over the held-out pairs of a sum: of the key waves, of all frequencies.
    restricted_test_loss: Float[Tensor, " checkpoint"]
    restricted_test_accuracy: Float[Tensor, " checkpoint"]
    averaged_test_accuracy: Float[Tensor, " checkpoint"]
    # The same with each pair's own logits, cut down to the key waves of the answer.
    pairwise_test_accuracy: Float[Tensor, " checkpoint"]
    excluded_loss: Float[Tensor, " checkpoint"]  # training pairs, without all key waves
    coefficients: Float[Tensor, "checkpoint k"]
    alignment: Float[Tensor, "checkpoint k"]
    residual_share: Float[Tensor, " checkpoint"]


@torch.no_grad()
def measure(
    checkpoints: Iterable[Float[Tensor, "p p c"]],
    frequencies: Sequence[int],
    train: Int[Tensor, " train"],
    test: Int[Tensor, " test"],
) -> Progress:
    """All measures, one checkpoint after the other, so that memory holds the logits of one.

    They are worked out where the logits are, and returned on the CPU.

    Args:
        checkpoints: logits of all pairs, e.g. ``(logits_at(step) for step in steps)``.
        frequencies: the key frequencies, e.g. of the last checkpoint.
        train, test: the training pairs and those held out.
    """
    rows = []
    for logits in checkpoints:
        logits = logits.double()
        sums = pair_sums(len(logits)).to(logits.device)
        losses = answer_nll(logits.flatten(0, 1), sums)
        own = logits.flatten(0, 1)[test]
        means = mean_by_sum(logits, test)
        restricted = _key_part(means, frequencies)
        fit = fit_cosines(logits, frequencies)
        rows.append(
            {
                "train_loss": losses[train].mean(),
                "test_loss": losses[test].mean(),
                "test_accuracy": accuracy(own, sums[test]),
                "restricted_test_loss": loss_by_sum(restricted, test),
                "restricted_test_accuracy": right_by_sum(restricted, test),
                "averaged_test_accuracy": right_by_sum(means, test),
                "pairwise_test_accuracy": accuracy(answer_waves(own, frequencies), sums[test]),
                "excluded_loss": excluded_loss(logits, frequencies, train),
                "coefficients": fit.coefficients,
                "alignment": fit.alignment,
                "residual_share": fit.residual_share,
            }
        )
    return Progress(**{name: torch.stack([row[name] for row in rows]).cpu() for name in rows[0]})


def squared_norm(
    weights: Mapping[str, Float[Tensor, "checkpoint ..."]],
) -> Float[Tensor, " checkpoint"]:
    """Sum of all squared weights at each checkpoint, of weights by name and stacked."""
    return torch.stack([w.double().flatten(1).square().sum(1) for w in weights.values()]).sum(0)

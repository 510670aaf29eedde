"""Progress measures of modular addition: how much of a model's logits is the cosine formula, at
each checkpoint.

The algorithm of Nanda, Chan, Lieberum, Smith & Steinhardt (ICLR 2023, arXiv 2301.05217) ends in
logits Σ_k α_k cos(ω_k (a + b - c)), with ω_k = 2πk/p and a few *key* frequencies k: all waves are
at their crest only where c = a + b mod p. The measures follow it while the test loss doesn't move
yet:

- *restricted loss*: only the logits' mean over the pairs and their waves cos ω_k (a + b), sin ω_k
  (a + b) are kept, for the key frequencies. How good is the algorithm alone? (On all pairs, unless
  others are named.)
- *excluded loss*: only those waves are removed. How good is what else there is? (On the training
    pairs.)

Both take the two waves per key frequency, like the code published with the paper; its text counts
the four products of waves of a and b that they are made of.

Logits are (*batch, p, p, c): all p² pairs, a first. Of everything that depends on a + b mod p
alone, only one row per sum is computed, p instead of p² of them (*by sum*: row s is for all pairs
with a + b ≡ s). The outputs c may be a multiple of p in number (addition without wrap-around, read
with period p). Losses are in nats, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.geometry.fourier import fourier_basis, require_frequencies, row_frequencies


# ------------------------------------------------------------------------- by sum
def pair_sums(p: int, modular: bool = True) -> Int[Tensor, " pairs"]:
    """a + b of all p² pairs in the order a · p + b, reduced mod p where ``modular``."""
    sums = (torch.arange(p)[:, None] + torch.arange(p)).flatten()
    return sums % p if modular else sums


def mean_by_sum(logits: Float[Tensor, "*batch p p c"]) -> Float[Tensor, "*batch p c"]:
    """Mean of the logits over the p pairs of each sum a + b mod p."""
    p = _period(logits)
    a, s = torch.arange(p, device=logits.device)[:, None], torch.arange(p, device=logits.device)
    return logits[..., a, (s - a) % p, :].mean(-3, dtype=torch.float64)  # mean over a of (a, s, c)


def sum_waves(
    logits: Float[Tensor, "*batch p p c"], frequencies: Sequence[int]
) -> Float[Tensor, "*batch k p c"]:
    """The logits' parts along cos ω_k (a + b) and sin ω_k (a + b), one per frequency, by sum."""
    return _waves(mean_by_sum(logits), require_frequencies(frequencies, _period(logits)))


def restricted_logits(
    logits: Float[Tensor, "*batch p p c"], frequencies: Sequence[int]
) -> Float[Tensor, "*batch p c"]:
    """Key waves and the mean over all pairs, nothing else; by sum."""
    means = mean_by_sum(logits)
    waves = _waves(means, require_frequencies(frequencies, _period(logits)))
    return means.mean(-2, keepdim=True) + waves.sum(-3)


def formula_logits(
    coefficients: Float[Tensor, "*batch k"],
    frequencies: Sequence[int],
    p: int,
    n_outputs: int | None = None,
) -> Float[Tensor, "*batch p c"]:
    """Σ_k α_k cos(ω_k (s - c)), by sum s; its row 0 is the interference pattern of the waves, crest
    at c = 0.
    """
    k = torch.tensor(require_frequencies(frequencies, p), dtype=torch.int64)
    turns = k[:, None, None] * (torch.arange(p)[:, None] - torch.arange(n_outputs or p)) % p
    waves = (2 * math.pi * turns.double() / p).cos().to(coefficients.device)
    return torch.einsum("...k,ksc->...sc", coefficients.double(), waves)


# --------------------------------------------------------------------- cosine formula
@dataclass(frozen=True)
class CosineFit:
    """Least-squares fit of Σ_k α_k cos(ω_k (a + b - c)) to logits of all pairs.

    Logits count without their mean over the outputs, pair by pair: it changes no probability.
    """

    frequencies: list[int]
    coefficients: Float[Tensor, "*batch k"]  # α_k, in the logits' unit
    similarity: Float[Tensor, "*batch k"]  # cosine similarity of all logits and the wave, -1 to 1
    alignment: Float[
        Tensor, "*batch k"
    ]  # the same, of only the logits' part at cos, sin ω_k (a + b); 0 if none
    residual_share: Float[Tensor, "*batch"]  # squared norm that the fit leaves, 0 to 1


def fit_cosines(logits: Float[Tensor, "*batch p p c"], frequencies: Sequence[int]) -> CosineFit:
    """Fit the cosine formula at the given frequencies.

    Raises:
        ValueError: logits that are not of all pairs, or are the same for all outputs; other
            frequencies.
    """
    listed = require_frequencies(frequencies, _period(logits))
    return _fit(logits.double(), mean_by_sum(logits), listed)


def _fit(
    logits: Float[Tensor, "*batch p p c"], means: Float[Tensor, "*batch p c"], listed: list[int]
) -> CosineFit:
    p = means.shape[-2]
    whole = logits.square().mean(
        (-3, -2, -1)
    )  # all sizes here are mean squares, over pairs and outputs
    size = (logits - logits.mean(-1, keepdim=True)).square().mean((-3, -2, -1))
    if bool((size <= 1e-24 * whole).any()):  # what rounding leaves of equal logits is no difference
        raise ValueError("logits are the same for all outputs: there is nothing to fit")
    means = means - means.mean(-1, keepdim=True)
    by_output = means.unflatten(-1, (-1, p)).mean(-2)  # outputs one period apart
    s, d = torch.arange(p, device=means.device)[:, None], torch.arange(p, device=means.device)
    by_distance = by_output[..., s, (s - d) % p].mean(
        -2
    )  # over all pairs and outputs with a + b - c ≡ d
    crests = formula_logits(torch.eye(len(listed)), listed, p)[:, :, 0].to(
        means.device
    )  # (k, d): cos ω_k d
    wave_size = crests.square().mean(-1)  # 1/2, or 1 at p/2
    coefficients = torch.einsum("...d,kd->...k", by_distance, crests) / (p * wave_size)
    explained = coefficients.square() * wave_size
    at_frequency = _waves(means, listed).square().mean((-2, -1))
    along = coefficients * wave_size.sqrt()
    present = at_frequency > 1e-24 * size.unsqueeze(-1)
    return CosineFit(
        frequencies=listed,
        coefficients=coefficients,
        similarity=along / size.sqrt().unsqueeze(-1),
        alignment=torch.where(present, along / at_frequency.sqrt().where(present, 1.0), 0.0),
        residual_share=(1 - explained.sum(-1) / size).clamp_min(0),
    )


# -------------------------------------------------------------------------- losses
def pair_losses(
    logits: Float[Tensor, "*batch pairs c"], answers: Int[Tensor, " pairs"]
) -> Float[Tensor, "*batch pairs"]:
    """Cross-entropy of each pair (nats), in float64."""
    logits = logits.double()
    index = answers.to(logits.device).expand(logits.shape[:-1]).unsqueeze(-1)
    return logits.logsumexp(-1) - logits.gather(-1, index).squeeze(-1)


def restricted_loss(
    logits: Float[Tensor, "*batch p p c"],
    frequencies: Sequence[int],
    pairs: Int[Tensor, " pairs"] | None = None,
    answers: Int[Tensor, " all_pairs"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Mean loss of the restricted logits over ``pairs`` (numbers a · p + b; default all).

    Args:
        answers: right output of each of the p² pairs; default a + b mod p.
    """
    return _loss_by_sum(restricted_logits(logits, frequencies), pairs, answers)


def formula_loss(
    logits: Float[Tensor, "*batch p p c"],
    frequencies: Sequence[int],
    pairs: Int[Tensor, " pairs"] | None = None,
    answers: Int[Tensor, " all_pairs"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Mean loss over ``pairs`` when the logits are replaced by the cosine formula with fitted
    coefficients.
    """
    fit = fit_cosines(logits, frequencies)
    table = formula_logits(fit.coefficients, fit.frequencies, *logits.shape[-2:])
    return _loss_by_sum(table, pairs, answers)


def excluded_loss(
    logits: Float[Tensor, "*batch p p c"],
    frequencies: Sequence[int],
    pairs: Int[Tensor, " pairs"],
    answers: Int[Tensor, " all_pairs"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Mean loss over ``pairs``, as a rule the training pairs, without the key waves."""
    waves = sum_waves(logits, frequencies).sum(-3)
    return _excluded(logits.flatten(-3, -2)[..., pairs.cpu(), :], waves, pairs, answers)


# --------------------------------------------------------------------- checkpoints
@dataclass(frozen=True)
class Progress:
    """The measures at each checkpoint; losses in nats."""

    frequencies: list[int]
    train_loss: Float[Tensor, " checkpoint"]
    test_loss: Float[Tensor, " checkpoint"]
    restricted_loss: Float[Tensor, " checkpoint"]  # all pairs
    restricted_train_loss: Float[Tensor, " checkpoint"]
    restricted_test_loss: Float[Tensor, " checkpoint"]
    excluded_loss: Float[Tensor, " checkpoint"]  # training pairs, without all key waves
    excluded_each: Float[
        Tensor, "checkpoint k"
    ]  # training pairs, without those of one key frequency
    formula_test_loss: Float[Tensor, " checkpoint"]
    coefficients: Float[Tensor, "checkpoint k"]
    similarity: Float[Tensor, "checkpoint k"]
    alignment: Float[Tensor, "checkpoint k"]
    residual_share: Float[Tensor, " checkpoint"]


@torch.no_grad()
def measure(
    checkpoints: Iterable[Float[Tensor, "p p c"]],
    frequencies: Sequence[int],
    train: Int[Tensor, " train"],
    answers: Int[Tensor, " all_pairs"] | None = None,
) -> Progress:
    """All measures, one checkpoint after the other, so that memory holds the logits of one.

    Args:
        checkpoints: logits of all pairs, e.g. ``(logits_at(step) for step in steps)``.
        frequencies: the key frequencies, e.g. of the last checkpoint. train: the training pairs, as
            numbers a · p + b.
        answers: right output of each of the p² pairs; default a + b mod p.

    Raises:
        ValueError: no checkpoint, no training or no test pairs, or what the single measures refuse.
    """
    rows = [_measure_one(logits, frequencies, train, answers) for logits in checkpoints]
    if not rows:
        raise ValueError("there must be at least one checkpoint")
    columns = {name: torch.stack([row[name] for row in rows]).cpu() for name in rows[0]}
    return Progress(frequencies=[int(k) for k in frequencies], **columns)


def squared_norm(
    weights: Mapping[str, Float[Tensor, "checkpoint ..."]],
) -> Float[Tensor, " checkpoint"]:
    """Sum of all squared weights at each checkpoint, from weights stacked over checkpoints by name."""
    return torch.stack([w.double().flatten(1).square().sum(1) for w in weights.values()]).sum(0)


def _measure_one(
    logits: Float[Tensor, "p p c"],
    frequencies: Sequence[int],
    train: Int[Tensor, " train"],
    answers: Int[Tensor, " all_pairs"] | None,
) -> dict[str, Tensor]:
    p, listed = _period(logits), require_frequencies(frequencies, _period(logits))
    train, test = _both_sides(train, p)
    logits = logits.double()
    losses = pair_losses(logits.flatten(0, 1), _answers(p, answers))
    means = mean_by_sum(logits)
    waves = _waves(means, listed)
    restricted = means.mean(0) + waves.sum(0)
    fit = _fit(logits, means, listed)
    formula = formula_logits(fit.coefficients, listed, *logits.shape[-2:])
    trained = logits.flatten(0, 1)[train]
    each = [_excluded(trained, wave, train, answers) for wave in waves]
    return dict(
        train_loss=losses[train].mean(),
        test_loss=losses[test].mean(),
        restricted_loss=_loss_by_sum(restricted, None, answers),
        restricted_train_loss=_loss_by_sum(restricted, train, answers),
        restricted_test_loss=_loss_by_sum(restricted, test, answers),
        excluded_loss=_excluded(trained, waves.sum(0), train, answers),
        excluded_each=torch.stack(each) if each else losses.new_zeros(0),
        formula_test_loss=_loss_by_sum(formula, test, answers),
        coefficients=fit.coefficients,
        similarity=fit.similarity,
        alignment=fit.alignment,
        residual_share=fit.residual_share,
    )


def _period(logits: Tensor) -> int:
    """p, from the shape of logits of all pairs."""
    if (
        logits.ndim < 3
        or logits.shape[-3] != logits.shape[-2]
        or logits.shape[-1] % logits.shape[-2]
    ):
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}: must be (..., p, p, c), c a multiple of p"
        )
    return logits.shape[-2]


def _waves(
    means: Float[Tensor, "*batch p c"], frequencies: list[int]
) -> Float[Tensor, "*batch k p c"]:
    p = means.shape[-2]
    basis, row_of = fourier_basis(p).to(means.device), row_frequencies(p)
    onto = [basis[row_of == k].T @ basis[row_of == k] for k in frequencies]
    onto = torch.stack(onto) if onto else basis.new_zeros(0, p, p)
    return torch.einsum("kst,...tc->...ksc", onto, means)


def _answers(p: int, answers: Int[Tensor, " all_pairs"] | None) -> Int[Tensor, " all_pairs"]:
    if answers is None:
        return pair_sums(p)
    if answers.shape != (p * p,):
        raise ValueError(
            f"answers have shape {tuple(answers.shape)}: must be one for each of the {p * p} pairs"
        )
    return answers.cpu()


def _both_sides(
    train: Int[Tensor, " train"], p: int
) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    is_train = torch.zeros(p * p, dtype=torch.bool)
    is_train[train.cpu()] = True
    if not is_train.any() or is_train.all():
        raise ValueError(
            f"{int(is_train.sum())} of {p * p} pairs for training: there must be some, and some "
            f"for tests"
        )
    return is_train.nonzero()[:, 0], (~is_train).nonzero()[:, 0]


def _loss_by_sum(
    table: Float[Tensor, "*batch p c"],
    pairs: Int[Tensor, " pairs"] | None,
    answers: Int[Tensor, " all_pairs"] | None,
) -> Float[Tensor, "*batch"]:
    p = table.shape[-2]
    pairs = torch.arange(p * p) if pairs is None else pairs.cpu()
    losses = -table.double().log_softmax(-1)
    return losses[..., pair_sums(p)[pairs], _answers(p, answers)[pairs]].mean(-1)


def _excluded(
    logits: Float[Tensor, "*batch pairs c"],
    wave: Float[Tensor, "*batch p c"],
    pairs: Int[Tensor, " pairs"],
    answers: Int[Tensor, " all_pairs"] | None,
) -> Float[Tensor, "*batch"]:
    p, pairs = wave.shape[-2], pairs.cpu()
    kept = logits - wave[..., pair_sums(p)[pairs], :]
    return pair_losses(kept, _answers(p, answers)[pairs]).mean(-1)

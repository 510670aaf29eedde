"""Progress measures against logits whose every part is planted, and against slow definitions
written out in full.
"""

import math
from dataclasses import fields

import pytest
import torch

from addlib.geometry.fourier import fourier_basis
from addlib.geometry.progress_measures import (
    answer_waves,
    distance_share,
    excluded_loss,
    fit_cosines,
    formula_logits,
    formula_loss,
    loss_by_sum,
    mean_by_sum,
    measure,
    pair_sums,
    restricted_logits,
    restricted_neurons,
    right_by_sum,
    squared_norm,
    sum_waves,
)

KEYS, ALPHA = [3, 5, 11], [2.0, 3.0, 1.5]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosines(p, frequencies=KEYS, coefficients=ALPHA, n_outputs=None):
    """Σ α_k cos(ω_k (a + b - c)) for every a, b, c, one by one."""
    a, b, c = torch.meshgrid(*(torch.arange(n) for n in (p, p, n_outputs or p)), indexing="ij")
    waves = [(2 * math.pi * k * (a + b - c).double() / p).cos() for k in frequencies]
    return sum(alpha * w for alpha, w in zip(coefficients, waves, strict=True))


def every_pair(p):
    return torch.arange(p * p)


def some_pairs(p, share=0.3, seed=1):
    return torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))[
        : int(share * p * p)
    ]


def full_loss(logits, pairs=slice(None)):
    p = logits.shape[0]
    return float(
        torch.nn.functional.cross_entropy(logits.flatten(0, 1)[pairs], pair_sums(p)[pairs])
    )


def restricted_loss(logits, frequencies, pairs):
    return loss_by_sum(restricted_logits(logits, frequencies), pairs)


def projected(logits, frequencies):
    """Logits' part along cos, sin ω_k (a + b), through unit vectors over all p² pairs."""
    p = logits.shape[0]
    sums, flat = pair_sums(p), logits.flatten(0, 1)
    part = torch.zeros_like(flat)
    for k in frequencies:
        for wave in (torch.cos, torch.sin):
            direction = wave(2 * math.pi * k * sums.double() / p)
            if float(direction.norm()) > 1e-6:
                direction /= direction.norm()
                part += direction[:, None] * (direction @ flat)
    return part


# ------------------------------------------------------------------ the exact formula
@pytest.mark.parametrize(("p", "keys"), [(23, KEYS), (24, [3, 5, 12]), (113, [14, 35, 41])])
def test_logits_that_are_the_formula(p, keys):
    logits = cosines(p, keys)
    train = some_pairs(p)
    fit = fit_cosines(logits, keys)
    assert fit.coefficients.tolist() == pytest.approx(ALPHA)
    assert fit.alignment.tolist() == pytest.approx([1, 1, 1])
    assert float(fit.similarity.square().sum()) == pytest.approx(1)
    assert float(fit.residual_share) == pytest.approx(0, abs=1e-12)
    assert float(restricted_loss(logits, keys, every_pair(p))) == pytest.approx(
        full_loss(logits), rel=1e-9
    )
    assert float(restricted_loss(logits, keys, train)) == pytest.approx(
        full_loss(logits, train), rel=1e-9
    )
    assert float(formula_loss(logits, keys, every_pair(p))) == pytest.approx(
        full_loss(logits), rel=1e-9
    )
    assert float(excluded_loss(logits, keys, train)) == pytest.approx(math.log(p), abs=1e-9)


def test_planted_frequencies_have_the_coefficients_and_others_have_none():
    logits = cosines(23) + 0.01 * random(23, 23, 23)
    fit = fit_cosines(logits, range(1, 12))
    assert ((fit.coefficients > 0.1).nonzero()[:, 0] + 1).tolist() == KEYS
    assert fit.coefficients[[2, 4, 10]].tolist() == pytest.approx(ALPHA, abs=0.01)
    assert float(fit.coefficients[[0, 1, 3, 5, 6, 7, 8, 9]].abs().max()) < 0.01


def test_one_key_frequency_left_out_leaves_its_share_behind():
    logits, train = cosines(23), some_pairs(23)
    fit = fit_cosines(logits, KEYS[:2])
    assert float(fit.residual_share) == pytest.approx(1.5**2 / (2**2 + 3**2 + 1.5**2))
    left = cosines(23, KEYS[2:], ALPHA[2:])
    assert float(excluded_loss(logits, KEYS[:2], train)) == pytest.approx(full_loss(left, train))
    assert float(restricted_loss(logits, KEYS[:2], every_pair(23))) == pytest.approx(
        full_loss(logits - left)
    )


def test_a_constant_of_each_pair_changes_nothing_and_a_bias_of_each_output_is_kept_by_restriction():
    logits, train = cosines(23), some_pairs(23)
    shifted = logits + 50 * random(23, 23, 1)
    bias = random(23)
    for one, other in ((fit_cosines(shifted, KEYS), fit_cosines(logits, KEYS)),):
        assert torch.allclose(one.coefficients, other.coefficients)
        assert torch.allclose(one.similarity, other.similarity)
        assert float(one.residual_share) == pytest.approx(0, abs=1e-9)
    assert float(excluded_loss(shifted, KEYS, train)) == pytest.approx(math.log(23))
    assert float(restricted_loss(logits + bias, KEYS, every_pair(23))) == pytest.approx(
        full_loss(logits + bias)
    )
    assert float(formula_loss(logits + bias, KEYS, every_pair(23))) == pytest.approx(
        full_loss(logits)
    )


def test_the_wrong_phase_is_no_formula():
    """A wave of a + b that has its crest elsewhere is a key wave, but not along cos ω_k (a + b -
    c).
    """
    logits = cosines(23, [4], [2.0]).roll(6, dims=-1)
    fit = fit_cosines(logits, [4])
    expected = math.cos(2 * math.pi * 4 * 6 / 23)
    assert float(fit.alignment) == pytest.approx(expected)
    assert float(fit.similarity) == pytest.approx(expected)
    assert float(fit.residual_share) == pytest.approx(1 - expected**2)
    assert float(restricted_loss(logits, [4], every_pair(23))) == pytest.approx(full_loss(logits))
    differences = cosines(23, [4], [2.0]).flip(1)  # waves of a - b are none of a + b
    assert float(fit_cosines(differences, [4]).alignment) == pytest.approx(0, abs=1e-9)
    train = some_pairs(23)
    assert float(excluded_loss(differences, [4], train)) == pytest.approx(
        full_loss(differences, train)
    )


# ------------------------------------------------------------- definitions in full
@pytest.mark.parametrize(("p", "keys"), [(7, [1, 3]), (8, [2, 4]), (8, [3])])
def test_losses_are_those_of_the_projections_written_out(p, keys):
    logits, pairs = random(p, p, p), some_pairs(p, 0.5)
    part = projected(logits, keys).reshape(p, p, p)
    restricted = part + logits.mean((0, 1))
    waves = sum_waves(logits, keys)
    assert torch.allclose(waves[pair_sums(p)].reshape(p, p, p), part, atol=1e-12)
    assert float(restricted_loss(logits, keys, every_pair(p))) == pytest.approx(
        full_loss(restricted)
    )
    assert float(restricted_loss(logits, keys, pairs)) == pytest.approx(
        full_loss(restricted, pairs)
    )
    assert float(excluded_loss(logits, keys, pairs)) == pytest.approx(
        full_loss(logits - part, pairs)
    )
    fit = fit_cosines(logits, keys)
    formula = cosines(p, keys, fit.coefficients.tolist())
    assert float(formula_loss(logits, keys, pairs)) == pytest.approx(full_loss(formula, pairs))
    centred = logits - logits.mean(-1, keepdim=True)
    residual = (centred - formula).norm() ** 2 / centred.norm() ** 2
    assert float(fit.residual_share) == pytest.approx(float(residual))
    for i, k in enumerate(keys):
        wave = cosines(p, [k], [1.0]).flatten()
        along = projected(centred, [k]).flatten()
        assert float(fit.similarity[i]) == pytest.approx(
            float(centred.flatten() @ wave / centred.norm() / wave.norm())
        )
        assert float(fit.alignment[i]) == pytest.approx(
            float(along @ wave / along.norm() / wave.norm())
        )


def test_all_waves_together_are_what_depends_on_the_sum_alone():
    logits = random(9, 9, 9)
    means = mean_by_sum(logits)
    for s in range(9):
        by_hand = torch.stack([logits[a, (s - a) % 9] for a in range(9)]).mean(0)
        assert torch.allclose(means[s], by_hand)
    assert torch.allclose(sum_waves(logits, range(1, 5)) + means.mean(0), means)


# ------------------------------------------------------------------- checkpoints
def right(logits, pairs):
    """Share of the pairs that are answered right."""
    p = logits.shape[1]
    return sum(int(logits[i].argmax()) == (int(i) // p + int(i) % p) % p for i in pairs) / len(
        pairs
    )


def test_measures_over_checkpoints_are_the_single_functions():
    p, train = 23, some_pairs(23)
    test = torch.tensor(sorted(set(range(p * p)) - set(train.tolist())))
    noise = 0.3 * random(p, p, p)
    stages = [cosines(p) * strength + noise for strength in (0.0, 0.5, 1.0)]
    progress = measure((logits.float() for logits in stages), KEYS, train, test)
    for i, logits in enumerate(stages):
        expected = dict(
            train_loss=full_loss(logits, train),
            test_loss=full_loss(logits, test),
            test_accuracy=right(logits.flatten(0, 1), test),
            restricted_test_loss=loss_by_sum(restricted_logits(logits, KEYS, test), test),
            restricted_test_accuracy=right(
                restricted_logits(logits, KEYS, test)[pair_sums(p)], test
            ),
            averaged_test_accuracy=right(mean_by_sum(logits, test)[pair_sums(p)], test),
            pairwise_test_accuracy=right(answer_waves(logits, KEYS).flatten(0, 1), test),
            excluded_loss=excluded_loss(logits, KEYS, train),
            residual_share=fit_cosines(logits, KEYS).residual_share,
        )
        for name, value in expected.items():
            assert float(getattr(progress, name)[i]) == pytest.approx(float(value), rel=1e-5), name
        for name in ("coefficients", "alignment"):
            expected = getattr(fit_cosines(logits, KEYS), name).tolist()
            assert getattr(progress, name)[i].tolist() == pytest.approx(expected, abs=1e-5)
    assert {len(getattr(progress, field.name)) for field in fields(progress)} == {3}
    # Without the noise the formula does better.
    assert progress.restricted_test_loss[2] < progress.test_loss[2]
    assert progress.restricted_test_loss.diff().max() < 0


def test_outputs_a_period_apart_count_alike():
    logits = random(6, 6, 12)
    fit = fit_cosines(logits, [1, 3])
    waves = torch.stack([cosines(6, [k], [1.0], n_outputs=12).flatten() for k in (1, 3)], 1)
    centred = (logits - logits.mean(-1, keepdim=True)).flatten()
    assert fit.coefficients.tolist() == pytest.approx(
        torch.linalg.lstsq(waves, centred[:, None]).solution[:, 0].tolist()
    )
    residual = (centred - waves @ fit.coefficients).norm() ** 2 / centred.norm() ** 2
    assert float(fit.residual_share) == pytest.approx(float(residual))


def test_the_interference_pattern_has_its_crest_at_the_answer():
    pattern = formula_logits(torch.tensor(ALPHA), KEYS, 23)[0]
    assert int(pattern.argmax()) == 0
    assert float(pattern[0]) == pytest.approx(sum(ALPHA))
    assert float(pattern[4]) == pytest.approx(float(cosines(23)[0, 0, 4]))


def held_out_of(p, train):
    return torch.tensor(sorted(set(range(p * p)) - set(train.tolist())))


def test_means_over_some_pairs_are_those_of_these_pairs():
    logits, pairs = random(9, 9, 9), some_pairs(9, 0.6)
    flat, sums = logits.flatten(0, 1), pair_sums(9)
    expected = torch.stack([flat[pairs[sums[pairs] == s]].mean(0) for s in range(9)])
    assert torch.allclose(mean_by_sum(logits, pairs), expected)
    assert torch.allclose(mean_by_sum(logits, every_pair(9)), mean_by_sum(logits))
    assert torch.equal(mean_by_sum(logits, torch.tensor([0]))[1:], torch.zeros(8, 9).double())


def test_restricted_neurons_are_the_published_measure():
    """Neurons along unit vectors of the key waves over all pairs, then read by the output weights."""
    neurons, W_L, logits = random(9, 9, 4), random(9, 4, seed=1), random(9, 9, 9, seed=2)
    kept = projected(neurons, [2, 3]).reshape(9, 9, 4) @ W_L.T + logits.mean((0, 1))
    by_sum = restricted_neurons(neurons @ W_L.T, logits, [2, 3])
    assert torch.allclose(by_sum[pair_sums(9)].reshape(9, 9, 9), kept)


def test_answer_waves_are_each_pairs_own():
    logits = cosines(23) + 5 * cosines(23, [7], [1.0])
    assert torch.allclose(answer_waves(logits, KEYS), cosines(23))
    one = logits.clone()
    one[3, 4] = 0
    assert torch.equal(answer_waves(one, KEYS)[0], answer_waves(logits, KEYS)[0])


def test_a_model_that_only_memorised_has_no_lead():
    """Its held-out logits are noise. Means over all pairs would answer for it all the same."""
    p = 113
    train = some_pairs(p)
    test = held_out_of(p, train)
    logits = random(p, p, p)
    table = logits.flatten(0, 1)
    table[train, pair_sums(p)[train]] += 20
    progress = measure([logits], KEYS, train, test)
    assert float(progress.train_loss[0]) < 1e-3
    for name in ("test", "restricted_test", "averaged_test", "pairwise_test"):
        assert float(getattr(progress, f"{name}_accuracy")[0]) < 0.05, name
    assert float(right_by_sum(mean_by_sum(logits), test)) > 0.99
    assert float(right_by_sum(restricted_logits(logits, range(1, 57)), test)) > 0.99


def test_the_distance_explains_all_of_what_depends_on_it_alone():
    a, b, c = torch.meshgrid(*[torch.arange(7)] * 3, indexing="ij")
    around = -((a + b - c) % 7 - 3.0).square().double()
    assert distance_share(around) == pytest.approx(1)
    assert distance_share((c == 2).double() + 0 * a) < 1e-12
    a, b, c = torch.meshgrid(torch.arange(7), torch.arange(7), torch.arange(13), indexing="ij")
    sharp = ((a + b == c).double() * 13 - 1).double()
    assert distance_share(sharp, modular=False) == pytest.approx(1)


def test_squared_norm_adds_up_all_weights_at_each_checkpoint():
    weights = {
        "W": torch.tensor([[[1.0, 2.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]),
        "b": torch.tensor([[4.0], [0]]),
    }
    assert squared_norm(weights).tolist() == [25, 1]


def test_measures_agree_with_the_basis_of_the_fourier_module():
    """The waves by sum are the basis rows of that frequency, in the same normalisation."""
    logits = random(11, 11, 11)
    rows = fourier_basis(11)[5:7]  # cos 3, sin 3
    assert torch.allclose(sum_waves(logits, [3]), rows.T @ (rows @ mean_by_sum(logits)))

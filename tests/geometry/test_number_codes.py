"""Codes of numbers: planted ones are found, others explain nothing of numbers left out."""

import numpy as np
import pytest
import torch

from addlib.geometry.number_codes import (
    explained_at_best,
    explained_share,
    held_out_misses,
    held_out_r2,
    helix,
    linear_r2,
    permuted_digits,
    polynomial,
    reconstructions,
)

NUMBERS = torch.arange(10, 100)
FOLDS = torch.arange(90) % 10
MIXED = torch.randperm(90, generator=torch.Generator().manual_seed(1))


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_helix_is_a_line_and_circles():
    code = helix(NUMBERS)
    assert code.shape == (90, 8)
    assert code[3].tolist() == pytest.approx(
        [0.13, -1]
        + [f(2 * np.pi * 13 / period) for period in (5, 10, 100) for f in (np.cos, np.sin)]
    )
    assert torch.allclose(code[0, 2:6], code[10, 2:6])  # 10 and 20: the same units digit


def test_a_polynomial_is_legendre_s_over_the_numbers_range():
    x = (NUMBERS.numpy() - 54.5) / 44.5
    expected = np.stack([np.polynomial.Legendre.basis(n)(x) for n in (1, 2, 3)], 1)
    assert np.allclose(polynomial(NUMBERS, 3), expected)
    assert polynomial(NUMBERS).shape == (90, 8)


def test_a_planted_code_is_reconstructed_and_another_one_is_not():
    rows = helix(NUMBERS) @ drawn(8, 30) + 5
    codes = {"helix": helix(NUMBERS), "shuffled": helix(NUMBERS)[MIXED]}
    whole = reconstructions(rows, codes)
    assert torch.allclose(whole["helix"], rows)
    assert torch.allclose(whole["PCA"], rows)  # of rank eight
    assert torch.allclose(whole["mean"], rows.mean(0).expand(90, -1))
    assert not torch.allclose(whole["shuffled"], rows, atol=0.1)
    explained = held_out_r2(rows, codes, FOLDS)
    assert explained["helix"] == pytest.approx(1)
    assert explained["PCA"] == pytest.approx(1)
    assert explained["shuffled"] < 0.1
    assert "mean" not in explained


def test_numbers_left_out_are_not_in_the_fit():
    rows = drawn(90, 30)
    out = FOLDS == 3
    codes = {"helix": helix(NUMBERS)}
    before = reconstructions(rows, codes, ~out, out)
    changed = rows.clone()
    changed[out] += 7
    after = reconstructions(changed, codes, ~out, out)
    assert torch.allclose(before["helix"], after["helix"])
    assert torch.allclose(before["mean"], after["mean"])
    # one fold by hand, by least squares on the others
    fit = np.column_stack([np.ones(81), codes["helix"][~out].numpy()])
    weights = np.linalg.lstsq(fit, rows[~out].numpy(), rcond=None)[0]
    by_hand = np.column_stack([np.ones(9), codes["helix"][out].numpy()]) @ weights
    assert np.allclose(before["helix"], by_hand)
    assert held_out_r2(rows, codes, FOLDS)["helix"] < 0  # noise


def test_some_numbers_alone_are_explained_as_well_as_they_are():
    rows = helix(NUMBERS) @ drawn(8, 30)
    rows[:45] += drawn(45, 30)  # the first half is noisy
    codes = {"helix": helix(NUMBERS)}
    missed = held_out_misses(rows, codes, FOLDS)
    first, second = (explained_share(missed, half)["helix"] for half in torch.arange(90).split(45))
    assert first < explained_share(missed)["helix"] < second
    assert explained_share(missed) == held_out_r2(rows, codes, FOLDS)
    twice = torch.arange(90).repeat(2)
    assert explained_share(missed, twice)["helix"] == pytest.approx(
        explained_share(missed)["helix"]
    )
    noise = held_out_misses(drawn(90, 30), codes, FOLDS)
    assert explained_at_best([noise, missed], "helix") == explained_share(missed)


def test_all_layers_at_once_give_the_same():
    layers = drawn(3, 90, 20) + torch.stack([n * helix(NUMBERS) @ drawn(8, 20) for n in range(3)])
    for code in (helix(NUMBERS), polynomial(NUMBERS)):
        one_by_one = [held_out_r2(rows, {"code": code}, FOLDS)["code"] for rows in layers]
        assert linear_r2(layers, code, FOLDS).tolist() == pytest.approx(one_by_one)


def test_a_helix_of_permuted_digits_is_not_taken_for_a_helix():
    """Each code explains its own rows, and the other one's as badly as digits allow."""
    generator = torch.Generator().manual_seed(2)
    permuted = permuted_digits(NUMBERS, generator)
    assert sorted(permuted.tolist()) == NUMBERS.tolist()
    assert (permuted[:10] // 10).unique().numel() == 1
    assert (permuted[::10] % 10).unique().numel() == 1
    for planted in (NUMBERS, permuted):
        rows = (helix(planted) @ drawn(8, 30))[None]
        own = linear_r2(rows, helix(planted), FOLDS)
        other = linear_r2(rows, helix(permuted if planted is NUMBERS else NUMBERS), FOLDS)
        assert own > 0.999
        assert other < 0.9

"""Planes, angles and turns against figures drawn by hand."""

import math

import pytest
import torch

from addlib.geometry.angles import (
    fit_plane,
    means_by,
    nearest_direction,
    unwrapped,
    widest_line_step,
)


def arc(n=11, half_turn=1.2, d=20, seed=0, off=0.0):
    """Points at even angles -half_turn…half_turn, radius 3, in a random plane of d dimensions and
    ``off`` it.
    """
    axes = torch.linalg.qr(
        torch.randn(d, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ).Q.T
    angles = torch.linspace(-half_turn, half_turn, n, dtype=torch.float64)
    to_and_fro = off * (-1.0) ** torch.arange(n)[:, None]
    return 3 * (
        angles.sin()[:, None] * axes[0] + angles.cos()[:, None] * axes[1]
    ) + to_and_fro * axes[2], angles


def test_the_planted_arc_is_found_with_its_angles():
    for seed in range(4):  # the SVD's signs differ
        rows, angles = arc(seed=seed)
        plane = fit_plane(rows, torch.arange(11))
        assert plane.share == pytest.approx(1)
        assert plane.angles(rows).tolist() == pytest.approx(angles.tolist())
        assert plane.points(rows).norm(dim=1).tolist() == pytest.approx([3] * 11)
        backwards = fit_plane(rows, -torch.arange(11))
        assert backwards.angles(rows).tolist() == pytest.approx((-angles).tolist())
    rows, _ = arc(off=0.5)
    assert fit_plane(rows, torch.arange(11)).share == pytest.approx(9 / 9.25, abs=1e-3)


def test_a_whole_circle_has_no_up_and_still_angles_in_order():
    turn = 2 * math.pi * torch.arange(12, dtype=torch.float64) / 12
    circle = torch.stack([turn.cos(), turn.sin()], 1)
    plane = fit_plane(circle, torch.arange(12))
    steps = unwrapped(plane.angles(circle)).diff()
    assert steps.abs().tolist() == pytest.approx([2 * math.pi / 12] * 11)


def test_turning_adds_to_the_angle_and_keeps_what_is_outside():
    rows, angles = arc(off=0.7)
    plane = fit_plane(rows, torch.arange(11))
    by = torch.linspace(-0.4, 0.9, 11, dtype=torch.float64)
    new = plane.turned(rows, by)
    assert (plane.angles(new) - plane.angles(rows)).tolist() == pytest.approx(by.tolist())
    assert new.norm(dim=1).tolist() == pytest.approx(rows.norm(dim=1).tolist())
    assert torch.allclose(
        new - plane.points(new) @ plane.axes, rows - plane.points(rows) @ plane.axes
    )
    assert torch.allclose(plane.turned(rows, torch.zeros(11)), rows)
    assert torch.allclose(plane.turned(new, -by), rows)
    exact, angles = arc()
    turned = fit_plane(exact, torch.arange(11)).turned(exact[:5], angles[5:10] - angles[:5])
    assert torch.allclose(turned, exact[5:10])  # the arc of a circle turns into itself


def test_unwrapping_by_hand():
    path = torch.tensor([3.0, -3.0, -1.0, 1.0, 3.0, -2.5])
    turn = 2 * math.pi
    assert unwrapped(path).tolist() == pytest.approx(
        [3, turn - 3, turn - 1, turn + 1, turn + 3, 2 * turn - 2.5]
    )
    assert unwrapped(torch.tensor([0.5])).tolist() == [0.5]


def test_no_distance_from_a_line_sees_its_ends_farther_apart():
    for n in (2, 9, 40):
        s = torch.arange(-n, n + 1, dtype=torch.float64)
        steps = [
            float(torch.atan(s / h).diff().min()) for h in torch.logspace(-2, 3, 2000).tolist()
        ]
        assert max(steps) == pytest.approx(widest_line_step(n), rel=1e-4)
        assert max(steps) <= widest_line_step(n) + 1e-12


def test_the_nearest_direction_ignores_length():
    references = torch.tensor([[1.0, 0], [10, 10], [0, 1]])
    rows = torch.tensor([[5.0, 0.1], [0.01, 0.012], [-1, 3]])
    assert nearest_direction(rows, references).tolist() == [0, 1, 2]
    # where nearness by distance says otherwise
    assert torch.cdist(rows[1:2], references).argmin().item() != 1


def test_means_by_label():
    rows = torch.tensor([[1.0, 2], [3, 4], [5, 0]])
    assert means_by(rows, torch.tensor([1, 0, 1])).tolist() == [[3, 4], [3, 1]]
    assert means_by(rows, torch.tensor([0, 0, 0])).tolist() == [[3, 2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_means_of_many_rows_of_few_labels(dtype):
    """Label k has k + 1 rows in turn; its rows are k and 10 k, with noise that cancels out."""
    labels = torch.cat([torch.arange(start, 40) for start in range(40)])
    noise = torch.zeros(len(labels))
    noise[labels == 39] = torch.tensor([1.0, -1.0] * 20)
    rows = torch.stack([labels + noise, 10.0 * labels], 1).to(dtype)
    means = means_by(rows, labels)
    assert means.dtype == dtype
    assert means.shape == (40, 2)
    assert means[:, 0].tolist() == pytest.approx(range(40), rel=1e-6)
    assert means[:, 1].tolist() == pytest.approx(range(0, 400, 10), rel=1e-6)

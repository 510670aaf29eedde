"""Rests, falls and spikes of curves whose answer is known."""

import numpy as np
import pytest

from addlib.theory.plateaus import fall, jumps_of, plateaus, smooth, stays_below

STEPS = np.arange(1500)


def noisy(curve, seed=0, batch=64):
    """The curve with the noise of a batch mean: a gamma variable of that many draws, so wider at
    higher losses.
    """
    return np.random.default_rng(seed).gamma(batch, np.asarray(curve) / batch)


def steps_down(*levels, at, width=20.0):
    """Levels joined by falls that are straight in ln loss, ``width`` steps long."""
    places = [
        0.0,
        *(x for step in at for x in (step - width / 2, step + width / 2)),
        float(STEPS[-1]),
    ]
    return np.exp(np.interp(STEPS, places, np.repeat(np.log(levels), 2)))


TWO = steps_down(2.3, 0.69, 0.07, at=(300, 700))


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_every_level_of_a_staircase_is_found(seed):
    loss = TWO if seed is None else noisy(TWO, seed)
    found = plateaus(loss)
    assert len(found) == 3
    for rest, level, (first, last) in zip(
        found, (2.3, 0.69, 0.07), ((0, 290), (310, 690), (710, 1499)), strict=True
    ):
        assert rest.level == pytest.approx(level, rel=0.03)
        assert rest.first == pytest.approx(first, abs=15)
        assert rest.last == pytest.approx(last, abs=15)
        assert rest.length == rest.last - rest.first + 1
        assert rest.ci[0] <= rest.level <= rest.ci[1]
        assert rest.ci[1] - rest.ci[0] < 0.08 * level


def test_intervals_hold_the_level_as_often_as_they_say():
    held = [
        rest.ci[0] <= 0.69 <= rest.ci[1]
        for seed in range(100)
        for rest in plateaus(noisy(np.full(200, 0.69), seed))
    ]
    assert 0.9 <= np.mean(held) <= 0.99


@pytest.mark.parametrize("time", [150, 300, 500])
@pytest.mark.parametrize("noise", [False, True])
def test_a_steady_decay_never_rests(time, noise):
    curve = 2.3 * np.exp(-STEPS / time)[: int(3 * time)]
    assert plateaus(noisy(curve, batch=400) if noise else curve) == []


def test_noise_at_a_constant_level_is_one_plateau():
    for seed in range(20):
        (rest,) = plateaus(noisy(np.full(1500, 0.3), seed))
        assert rest.level == pytest.approx(0.3, rel=0.02)
        assert rest.length > 1400


def test_a_plateau_at_the_end_of_the_run_is_found_and_a_brief_one_is_not():
    fall_then_rest = 0.1 + 2.2 * np.exp(-STEPS / 60)
    rest = plateaus(noisy(fall_then_rest))[-1]
    assert rest.last == 1499
    assert rest.first < 400
    assert rest.level == pytest.approx(0.1, rel=0.1)
    brief = steps_down(2.3, 0.69, 0.07, at=(300, 330))
    assert [round(rest.level, 1) for rest in plateaus(brief)] == [2.3, 0.1]


def test_a_sloping_shelf_between_falls_is_found():
    ln = np.interp(STEPS, [0, 150, 200, 350, 500, 1499], np.log([2.3, 2.3, 0.88, 0.78, 0.1, 0.1]))
    for seed in range(5):
        (rest,) = (
            p for p in plateaus(noisy(np.exp(ln), seed, batch=200)) if abs(p.level - 0.83) < 0.03
        )
        assert 190 <= rest.first < rest.last <= 370
        assert rest.length > 75


def test_steps_without_a_value_do_not_count():
    loss = noisy(TWO)
    loss[4::5] = np.nan
    assert [round(rest.level, 2) for rest in plateaus(loss)] == pytest.approx(
        [2.3, 0.69, 0.07], rel=0.02
    )
    assert fall(loss, 2.3, 0.69).step == pytest.approx(300, abs=6)
    assert plateaus(np.full(100, np.nan)) == []
    assert plateaus(loss[:30]) == []


def test_the_change_point_of_a_fall():
    for loss in (TWO, noisy(TWO)):
        assert fall(loss, 2.3, 0.69, log=True).step == pytest.approx(300, abs=4)
        assert fall(loss, 0.69, 0.07, log=True).step == pytest.approx(700, abs=4)
        both = fall(loss, 2.3, 0.69)
        assert both.first < both.step < both.last
        assert fall(loss, 0.07, 0.01) is None
        assert fall(loss, 8.0, 4.0) is None
    straight = fall(np.interp(STEPS, [0, 500, 900, 1499], [2.0, 2.0, 1.0, 1.0]), 2.0, 1.0)
    assert (straight.first, straight.step, straight.last) == pytest.approx((600, 700, 800), abs=1)
    once_more = np.where((STEPS > 900) & (STEPS < 1000), 2.3, TWO)
    assert fall(once_more, 2.3, 0.69).step == pytest.approx(1000, abs=10)


def test_the_step_from_which_a_curve_stays_below_by_hand():
    assert stays_below([3.0, 1.0, 2.0, 1.0, 0.5], 1.0) == 3
    assert stays_below([1.0, 0.5], 1.0) == 0
    assert np.isnan(stays_below([0.5, 1.5], 1.0))
    assert stays_below([0.5, np.nan, 0.5], 1.0) == 2


def test_planted_spikes_are_found_and_nothing_else():
    curve = steps_down(2.3, 0.69, 0.07, at=(300, 700))
    for seed in range(10):
        loss = noisy(curve, seed, batch=400)
        assert not (jumps_of(loss) >= np.log(2)).any()
        loss[[500, 502, 1000]] *= [4.0, 3.0, 5.0]
        jumps = jumps_of(loss)
        assert np.flatnonzero(jumps >= np.log(2)).tolist() == [500, 502, 1000]
        assert np.exp(jumps[[500, 502, 1000]]) == pytest.approx([4.0, 3.0, 5.0], rel=0.25)


def test_a_plateau_a_decay_and_a_fall_have_no_spikes():
    for curve in (
        np.full(200, 0.7),
        np.exp(-STEPS / 100),
        TWO,
        TWO[::-1],
        np.where(STEPS < 700, 0.1, 1.0),
    ):
        assert not (jumps_of(curve) >= np.log(2)).any()
    assert jumps_of(np.exp(-STEPS / 100))[30:-30] == pytest.approx(0, abs=1e-12)


def test_the_running_mean():
    assert smooth([1.0, 2.0, 6.0, np.nan, 4.0], 1).tolist() == [1.5, 3.0, 4.0, 5.0, 4.0]
    assert np.isnan(smooth([np.nan, np.nan, 1.0], 0)[:2]).all()
    assert smooth(noisy(TWO), 0) == pytest.approx(noisy(TWO), abs=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: plateaus([-1.0] * 100),
        lambda: plateaus(TWO, band=0),
        lambda: plateaus(TWO, ratio=1),
        lambda: plateaus(TWO, least=1),
        lambda: fall(TWO, 0.1, 0.2),
        lambda: fall(TWO, 0.1, 0.0, log=True),
        lambda: jumps_of(TWO - 0.07),
        lambda: jumps_of(np.append(TWO, np.nan)),
        lambda: jumps_of(TWO, 50),
        lambda: jumps_of(TWO, 1),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match="must"):
        call()

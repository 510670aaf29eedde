"""Axes of pairs and the spread of nines, against the library's own residual stream."""

import pytest
import torch

from addlib.analysis.activations import activations
from addlib.analysis.place_axes import axis_of, drowned, nine_spread, nines_silenced
from addlib.models.addition import ModelConfig, build_model
from addlib.models.bridge import weights
from addlib.models.fast_addition import centred
from addlib.tasks.addition import AdditionTask, Questions
from addlib.tasks.sampling import uniform_questions

TASK = AdditionTask(4)


@pytest.fixture(scope="module")
def model():
    built = build_model(ModelConfig(1, 3, 24), TASK, seed=2)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in weights(built).values():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return built


def stream(model, x, y, k):
    """The centred residual stream before the MLP at A_k."""
    position = TASK.answer_positions[TASK.answer_columns.index(k)]
    return centred(activations(model, "blocks.0.hook_resid_mid", Questions(TASK, x, y)))[
        :, position
    ]


def test_an_axis_is_half_the_way_from_all_pairs_below_nine_to_all_above(model):
    low = torch.tensor([(a, b) for a in range(10) for b in range(9 - a)])
    rest = uniform_questions(TASK, 2700, torch.Generator().manual_seed(5))
    ends = []
    for pairs in (low, 9 - low):
        x, y = rest.x.clone(), rest.y.clone()
        x[:, 1], y[:, 1] = pairs.repeat(60, 1).T
        assert ((x + y)[:, 1] > 9).float().mean() in (0, 1)
        ends.append(stream(model, x, y, 3).mean(0))
    axis = centred(axis_of(model, TASK, 3, 1, seed=5)[None])[0]
    assert torch.allclose(axis, (ends[1] - ends[0]) / 2, atol=1e-4)


def test_nines_spread_as_the_stream_of_their_ten_pairs_does(model):
    axis = centred(axis_of(model, TASK, 3, 0, seed=5)[None])[0]
    rest = uniform_questions(TASK, 600, torch.Generator().manual_seed(5))
    means = []
    for digit in range(10):
        x, y = rest.x.clone(), rest.y.clone()
        x[:, 2], y[:, 2] = digit, 9 - digit
        means.append((stream(model, x, y, 3) @ axis / axis.norm()).mean())
    spread = nine_spread(model, TASK, 3, 2, axis, seed=5)
    assert spread == pytest.approx(torch.stack(means).std().item(), rel=1e-3)
    assert drowned(model, TASK, 3, seed=5) * axis.norm() >= spread * 0.99


def test_nines_are_silent_where_attention_writes_nothing_of_them(model):
    with torch.no_grad():
        kept = weights(model)["embed.weight"].clone()
        weights(model)["embed.weight"][1:9] = weights(model)["embed.weight"][:1]
        weights(model)["embed.weight"][9] = weights(model)["embed.weight"][0]
        same = nine_spread(model, TASK, 3, 2, torch.randn(24), seed=5)
        weights(model)["embed.weight"][:] = kept
    assert same == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("everywhere", [False, True])
def test_silenced_nines_leave_the_mean_over_the_hundred_ways_and_all_else(model, everywhere):
    drawn = uniform_questions(TASK, 3, torch.Generator().manual_seed(6))
    x, y = drawn.x, drawn.y
    y[:, [1, 2]] = 9 - x[:, [1, 2]]
    of_all = []
    for first in range(10):
        for second in range(10):
            other_x, other_y = x.clone(), y.clone()
            other_x[:, 2], other_y[:, 2] = first, 9 - first
            other_x[:, 1], other_y[:, 1] = second, 9 - second
            of_all.append(stream(model, other_x, other_y, 3))
    mean = torch.stack(of_all).mean(0)
    axis = axis_of(model, TASK, 3, 0, seed=5)
    asked = Questions(TASK, x, y)
    name, hook = nines_silenced(model, asked, 3, None if everywhere else axis)
    before = activations(model, name, asked)
    after = hook(before)
    position = TASK.answer_positions[TASK.answer_columns.index(3)]
    others = [p for p in range(before.shape[1]) if p != position]
    assert torch.equal(before[:, others], after[:, others])
    changed = centred(after[:, position])
    if everywhere:
        assert torch.allclose(changed, mean, atol=1e-4)
    else:
        unit = centred(axis[None])[0] / centred(axis[None]).norm()
        assert torch.allclose(changed @ unit, mean @ unit, atol=1e-4)
        beside = stream(model, x, y, 3)
        across = torch.eye(len(unit)) - unit[:, None] * unit
        assert torch.allclose(changed @ across, beside @ across, atol=1e-4)

"""Bounds against all that can stand at the free places."""

import pytest
import torch

from addlib.analysis.lead_bound import LeadBound, Means, only_in_sight, relu_bound
from addlib.models.addition import ModelConfig, build_model
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask, Questions

TASK = AdditionTask(1)


def shaken(seed, attention=1.0):
    """A model of random weights, with what its attention writes made smaller."""
    model = build_model(ModelConfig(1, 3, 24), TASK, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in weights(model).values():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
        weights(model)["blocks.0.attn.v.weight"].mul_(attention)
    return model


@torch.no_grad()
def leads(model, tokens, digit):
    """Of each row of tokens the lead of the digit over the best other token."""
    logits = model(tokens)[:, -1]
    others = torch.arange(TASK.d_vocab) != digit
    return logits[:, digit] - logits[:, others].amax(1)


@pytest.mark.parametrize("seed", range(3))
def test_where_all_is_known_the_bound_is_the_lead(seed):
    model = shaken(seed)
    tokens = torch.tensor([[4, TASK.plus, 7, TASK.equals, 1]])
    digit = int(model(tokens)[0, -1].argmax())
    bound = LeadBound(model, TASK, 0)(tokens[0], digit)
    assert bound == pytest.approx(leads(model, tokens, digit).item(), abs=1e-4)


def test_no_digit_at_the_free_place_has_less_than_the_bound():
    proved = 0
    for seed in range(12):
        model = shaken(seed, attention=0.1)
        whole = torch.tensor([[d, TASK.plus, 7, TASK.equals, 1] for d in range(10)])
        digit = int(model(whole)[0, -1].argmax())
        open_question = whole[0].clone()
        open_question[0] = -1
        bound = LeadBound(model, TASK, 0)(open_question, digit)
        assert bound <= leads(model, whole, digit).min() + 1e-4
        proved += bound > 0
    assert proved > 2


def test_where_the_free_place_is_gone_through_the_bound_is_the_least_lead():
    found = 0
    for seed in range(12):
        model = shaken(seed, attention=0.3)
        whole = torch.tensor([[d, TASK.plus, 7, TASK.equals, 1] for d in range(10)])
        digit = int(model(whole)[0, -1].argmax())
        least = leads(model, whole, digit).min().item()
        open_question = whole[0].clone()
        open_question[0] = -1
        bound = LeadBound(model, TASK, 0)
        split = bound(open_question, digit, splits=1)
        if bound(open_question, digit) < 0 < split:
            assert split == pytest.approx(least, abs=1e-4)
            found += 1
    assert found > 3


@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_the_extreme_of_a_mean_is_that_over_all_choices(rounds):
    generator = torch.Generator().manual_seed(0)
    weight, free_weight = (
        torch.rand(1, generator=generator),
        torch.rand(1, 2, 4, generator=generator),
    )
    values = torch.randn(1, 2, 4, 3, generator=generator)
    known = torch.randn(1, 3, generator=generator)
    means = Means(
        weight, weight[:, None] * known, free_weight, free_weight[..., None] * values, rounds
    )
    every = []
    for a in range(4):
        for b in range(4):
            w = torch.stack([weight[0], free_weight[0, 0, a], free_weight[0, 1, b]])
            v = torch.stack([known[0], values[0, 0, a], values[0, 1, b]])
            every.append((w[:, None] * v).sum(0) / w.sum())
    every = torch.stack(every)
    assert (means.most() >= every.amax(0) - 1e-6).all()
    assert (means.least() <= every.amin(0) + 1e-6).all()
    if rounds == 5:
        assert torch.allclose(means.most(), every.amax(0), atol=1e-6)
        assert torch.allclose(means.least(), every.amin(0), atol=1e-6)


def test_relus_are_never_below_their_linear_bound():
    low = torch.tensor([-1.0, -3.0, 0.5, -2.0])
    high = torch.tensor([2.0, 1.0, 1.0, -0.5])
    gain = torch.tensor([[1.0, 2.0, -1.0, 3.0], [-1.0, -2.0, 1.0, -3.0]])
    slope, constant = relu_bound(gain, low, high)
    z = low + (high - low) * torch.rand(500, 4, generator=torch.Generator().manual_seed(0))
    z = torch.cat([z, low[None], high[None]])
    assert (z.relu() @ gain.T >= z @ slope.T + constant - 1e-6).all()
    assert (slope[:, 3] == 0).all()
    assert torch.equal(slope[:, 2], gain[:, 2])


def test_in_sight_are_the_pairs_from_a_column_down_and_what_was_just_written():
    task = AdditionTask(3)
    asked = Questions.of(task, [(123, 456)])  # 123+456=0579
    plus, equals = task.plus, task.equals
    assert only_in_sight(asked, 1).tolist() == [[-1, 2, 3, plus, -1, 5, 6, equals, 0, 5]]
    assert only_in_sight(asked, 0).tolist() == [[-1, -1, 3, plus, -1, -1, 6, equals, 0, -1, 7]]

"""Neurons: ranked by what a metric loses at their means, and kept or set to their means one by one."""

from functools import cache

import torch

from addlib.llm.grading import SharedStart
from addlib.llm.load import RANDOM, load_llm
from addlib.llm.neurons import matched, rank_neurons
from addlib.llm.pairs import prompt_pairs
from addlib.llm.prompts import few_shot, problems

FORM = few_shot(count=2)


@cache
def llm():
    return load_llm(RANDOM, device="cpu")


@cache
def pairs():
    return prompt_pairs(FORM, llm().tokenizer, problems((2, 1), 100), 0).first(6)


@cache
def ranked():
    return rank_neurons(SharedStart(llm(), FORM), pairs().clean, pairs().difference)


def metric_with(hooks):
    """The metric of whole prompts through the bridge, without a shared start."""
    with torch.no_grad(), llm().bridge.hooks(fwd_hooks=hooks):
        return pairs().difference(llm().bridge(pairs().clean)[:, -1])


def test_means_are_those_of_the_plain_run():
    names = [f"blocks.{layer}.mlp.hook_post" for layer in (0, 1)]
    _, run = llm().bridge.run_with_cache(pairs().clean, names_filter=names)
    expected = torch.stack([run[name][:, -1].mean(0) for name in names])
    assert ranked().means.shape == (2, 48)
    assert torch.allclose(ranked().means, expected, atol=1e-5)


def test_importance_is_the_slope_times_the_change():
    """Moved a little towards its mean, a neuron changes the metric by as little as that says."""
    step = 1e-2
    plain = metric_with([])
    for layer, neuron in ((0, 3), (1, 40)):

        def towards(value, hook, layer=layer, neuron=neuron):
            mean = ranked().means[layer, neuron]
            value[:, -1, neuron] += step * (mean - value[:, -1, neuron])
            return value

        moved = metric_with([(f"blocks.{layer}.mlp.hook_post", towards)])
        expected = ((moved - plain) / step).abs().mean()
        assert torch.isclose(ranked().importance[layer, neuron], expected, rtol=0.03)
    in_order = ranked().importance.flatten()[ranked().ranked]
    assert (in_order.diff() <= 0).all()


def test_only_the_neurons_kept_differ_from_their_means():
    everything = torch.arange(96)
    assert torch.equal(metric_with(ranked().only(everything)), metric_with([]))
    kept = ranked().ranked[:10]
    seen = {}

    def look(value, hook):
        seen[len(seen)] = value[:, -1].clone()

    looks = [(f"blocks.{layer}.mlp.hook_post", look) for layer in (0, 1)]
    metric_with([*ranked().only(kept), *looks])
    varies = torch.stack([*seen.values()]).std(1) > 1e-6  # (layer, neuron)
    assert varies.flatten().nonzero()[:, 0].tolist() == sorted(kept.tolist())


def test_a_shared_start_gives_the_same_as_whole_prompts():
    start = SharedStart(llm(), FORM)
    hooks = ranked().only(ranked().ranked[:20])
    through_start = pairs().difference(start.at_end(pairs().clean, hooks=hooks))
    assert torch.allclose(through_start, metric_with(hooks), atol=1e-5)
    assert (through_start - metric_with([])).abs().max() > 1e-3


def test_matched_neurons_are_others_of_the_same_layer_and_size():
    sizes = torch.tensor([[1.0, 1.1, 5.0, 4.9], [2.0, 9.0, 2.1, 2.2]])
    found = matched(sizes, torch.tensor([0, 2, 4]), torch.tensor([0, 2, 4]))
    assert found.tolist() == [1, 3, 6]
    twice = matched(sizes, torch.tensor([4, 4]), torch.tensor([4]))
    assert twice.tolist() == [6, 7]

"""The last token run by itself gives what whole prompts give, with hooks and without."""

import torch
from test_neurons import FORM, llm, metric_with, pairs

from addlib.llm.grading import SharedStart
from addlib.llm.last_token import LastToken, exchanged, post
from addlib.llm.prompts import few_shot


def last_token():
    return LastToken(SharedStart(llm(), FORM), pairs().clean)


def test_it_gives_the_logits_of_whole_prompts_as_often_as_asked():
    run = last_token()
    expected = metric_with([])
    for _ in range(2):
        assert torch.allclose(pairs().difference(run()), expected, atol=1e-5)
    zero_shot = few_shot(count=0)
    prompts = pairs().clean[:, SharedStart(llm(), FORM).length :]
    alone = LastToken(SharedStart(llm(), zero_shot), prompts)
    with torch.no_grad():
        assert torch.allclose(alone(), llm().bridge(prompts)[:, -1], atol=1e-5)


def test_neurons_are_those_of_the_plain_run():
    names = [post(layer) for layer in (0, 1)]
    _, plain = llm().bridge.run_with_cache(pairs().clean, names_filter=names)
    found, logits = last_token().neurons([0, 1])
    expected = torch.stack([plain[name][:, -1] for name in names])
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(pairs().difference(logits), metric_with([]), atol=1e-5)


def test_exchanging_nothing_or_equals_changes_nothing():
    run = last_token()
    plain = run()
    own, _ = run.neurons([0, 1])
    nowhere = torch.zeros(2, 48, dtype=torch.bool)
    assert torch.equal(run(exchanged(nowhere, own)), plain)
    assert torch.allclose(run(exchanged(~nowhere, own)), plain, atol=1e-6)


def test_exchanging_is_what_hooks_on_whole_prompts_do():
    run = last_token()
    own, _ = run.neurons([0, 1])
    where = torch.zeros(2, 48, dtype=torch.bool)
    where[1, :20] = True
    hooks = exchanged(where[1:], own.roll(1, 1)[1:], [1])
    changed = pairs().difference(run(hooks))
    assert torch.allclose(changed, metric_with(hooks), atol=1e-5)
    assert (changed - metric_with([])).abs().max() > 1e-3


def test_a_run_that_begins_at_a_layer_gives_the_same_and_leaves_the_model_as_it_was():
    run = last_token()
    own, plain = run.neurons([1])
    where = torch.ones(1, 48, dtype=torch.bool)
    hooks = exchanged(where, own.roll(1, 1), [1])
    tokens = torch.tensor([3, 1, 12])
    for _ in range(2):
        for some in ([], hooks):
            assert torch.allclose(run(some, tokens, 1), run(some)[:, tokens], atol=1e-5)
    assert (run(hooks) - plain).abs().max() > 1e-3
    assert torch.allclose(run(), plain, atol=1e-6)
    assert len(llm().bridge.original_model.base_model.layers) == 2
    assert run._where(1) == 1


def test_several_last_tokens_are_those_of_whole_prompts():
    run = LastToken(SharedStart(llm(), FORM), pairs().clean, 3)

    def put(value, hook):
        value = value.clone()
        value[:, -2] = value[:, -2].roll(1, 0)
        return value

    hooks = [("blocks.1.hook_resid_pre", put)]
    tokens = torch.arange(10)
    expected = metric_with(hooks)
    assert torch.allclose(pairs().difference(run(hooks)), expected, atol=1e-5)
    assert torch.allclose(pairs().difference(run(hooks, tokens, 1)), expected, atol=1e-5)
    assert (expected - metric_with([])).abs().max() > 1e-3


def test_a_model_that_does_more_than_run_its_layers_is_run_whole(monkeypatch):
    run = last_token()
    trunk = llm().bridge.original_model.base_model
    embedded = trunk.embed_tokens

    def scaled(input_ids=None, inputs_embeds=None, **given):
        if inputs_embeds is None:
            inputs_embeds = embedded(input_ids)
        return forward(inputs_embeds=2 * inputs_embeds, **given)

    forward = trunk.forward
    monkeypatch.setattr(trunk, "forward", scaled)
    assert torch.allclose(run([], torch.arange(10), 1), run()[:, :10], atol=1e-5)
    assert run._where(1) == 0


def test_logits_of_a_few_tokens_are_those_of_all():
    start = SharedStart(llm(), FORM)
    tokens = torch.tensor([7, 2])
    plain = start(pairs().clean, 2)
    assert torch.allclose(start(pairs().clean, 2, tokens=tokens), plain[..., tokens], atol=1e-5)
    at_end = start.at_end(pairs().clean, tokens=tokens)
    assert torch.allclose(at_end, plain[:, -1][:, tokens], atol=1e-5)

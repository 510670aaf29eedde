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

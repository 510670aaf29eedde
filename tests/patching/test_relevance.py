"""Relevance patching: exact where the model is linear, whole where it has no biases."""

import pytest
import torch
from test_patching import build, difference, pairs

from addlib.patching.gradient import attribution_patch
from addlib.patching.metrics import LogitDifference
from addlib.patching.relevance import relevance_patch
from addlib.patching.sweep import Patcher

KINDS = ("resid_pre", "attn_out", "mlp_out", "z", "v")


class Same(torch.nn.Module):
    """A step that changes nothing."""

    def forward(self, value, *_, **__):
        return value


def linear_model():
    """GPT-2 that looks everywhere alike, with neurons and norms that pass on what they get."""
    made = build("gpt2")
    with torch.no_grad():
        for block in made.blocks:
            block.attn.q.original_component.weight.zero_()
            block.attn.q.original_component.bias.zero_()
            block.mlp.original_component.act = Same()
    for norm in [made.ln_final, *(ln for block in made.blocks for ln in (block.ln1, block.ln2))]:
        vars(norm)["forward"] = Same().forward
        norm.original_component.bias.data.zero_()
    return made.eval()


@pytest.mark.parametrize("estimate", [attribution_patch, relevance_patch])
def test_on_a_linear_model_both_estimates_are_exact(estimate, monkeypatch):
    from addlib.patching import relevance

    # the norms of this model do not centre
    monkeypatch.setattr(relevance, "_divide_by_a_constant", relevance._multiply_by_a_constant)
    model = linear_model()
    clean, corrupted = pairs()
    exact = Patcher(model, corrupted, clean)
    found = estimate(model, KINDS, corrupted, clean, difference())
    for kind in KINDS:
        effects = exact.sweep(kind, difference()).effect()
        assert effects.abs().max() > 0.1
        assert torch.allclose(found[kind].effect(), effects, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_without_biases_nothing_is_lost_on_the_way(family):
    """The relevance of all positions of a stream adds up to the metric, at every layer."""
    model = build(family)
    for name, parameter in model.original_model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    clean, _ = pairs()
    metric = difference()
    kept = {}

    def keep(value, hook):
        kept[hook.name] = value
        return value

    from addlib.patching.relevance import _rules

    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(2)]
    with _rules(model), model.hooks(fwd_hooks=[(name, keep) for name in names]):
        value = metric(model(clean)[:, -1])
        slopes = torch.autograd.grad(value.sum(), list(kept.values()))
    for stream, slope in zip(kept.values(), slopes, strict=True):
        assert torch.allclose((stream * slope).sum((1, 2)), value, rtol=1e-3, atol=1e-4)


def test_values_are_those_of_the_model_and_no_rule_stays():
    model = build("qwen2")
    clean, corrupted = pairs()
    metric = difference()
    before = model(corrupted)
    slopes = attribution_patch(model, ["z"], corrupted, clean, metric)["z"].effect()
    found = relevance_patch(model, ["z"], corrupted, clean, metric)["z"]
    assert torch.allclose(found.baseline, metric(before[:, -1]).detach(), atol=1e-5)
    assert (found.effect() - slopes).abs().max() > 1e-3
    after = attribution_patch(model, ["z"], corrupted, clean, metric)["z"].effect()
    assert torch.equal(after, slopes)
    assert torch.equal(model(corrupted), before)


def test_what_the_rules_cannot_do_is_refused():
    clean, corrupted = pairs()
    with pytest.raises(ValueError, match="pattern: attention weights are constants"):
        relevance_patch(build(), ["z", "pattern"], corrupted, clean, difference())
    broken = build()
    del broken.blocks[0].mlp.original_component.act_fn
    with pytest.raises(ValueError, match="no rule for these blocks"):
        relevance_patch(broken, ["z"], corrupted, clean, LogitDifference(*clean[:, :2].T))

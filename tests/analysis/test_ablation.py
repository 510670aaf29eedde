"""Ablation: nothing ablated changes nothing, what no answer reads changes none, and a hook replaces
what it names.
"""

import pytest
import torch

from addlib.analysis.ablation import Ablation, hooks, past_and_through_mlp
from addlib.analysis.activations import activations, answer_activations
from addlib.analysis.answers import answer
from addlib.models.addition import ModelConfig, answer_logits, build_model
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import uniform_questions

TASK = AdditionTask(3)


@pytest.fixture
def model():
    model = build_model(ModelConfig(width=24), TASK, seed=1)
    with torch.no_grad():
        for p in weights(model).values():
            p.mul_(2)
    return model


def questions(seed, count=40):
    return uniform_questions(TASK, count, torch.Generator().manual_seed(seed))


def ablated(model, ablations, asked, reference=None, seed=0):
    with model.hooks(fwd_hooks=hooks(model, ablations, reference, seed)):
        return answer_logits(model, TASK, asked.tokens)


def test_ablating_nothing_changes_nothing(model):
    asked = questions(1)
    before = answer_logits(model, TASK, asked.tokens)
    assert torch.equal(ablated(model, [], asked), before)
    assert torch.equal(
        ablated(model, [Ablation(head=0, positions=[], method="zero")], asked), before
    )
    # The mean over one question, put into that question.
    one = questions(1, 1)
    own = ablated(model, [Ablation("z", head) for head in range(3)], one, reference=one)
    assert torch.allclose(own, answer_logits(model, TASK, one.tokens), atol=1e-6)


def test_outputs_at_question_positions_reach_no_answer_in_one_layer(model):
    asked, other = questions(1), questions(2)
    before = answer_logits(model, TASK, asked.tokens)
    early = range(TASK.answer_positions.start)
    for method in ("zero", "mean", "resample"):
        both = [Ablation(name, positions=early, method=method) for name in ("attn_out", "mlp_out")]
        assert torch.equal(ablated(model, both, asked, reference=other), before), method
    late = [Ablation("mlp_out", positions=TASK.answer_positions, method="zero")]
    assert not torch.allclose(ablated(model, late, asked), before, atol=1e-3)


def test_two_layers_do_read_them():
    model = build_model(ModelConfig(n_layers=2, width=24), TASK, seed=1)
    asked = questions(1)
    early = [Ablation("mlp_out", positions=range(TASK.answer_positions.start), method="zero")]
    assert not torch.allclose(
        ablated(model, early, asked), answer_logits(model, TASK, asked.tokens), atol=1e-4
    )


@pytest.mark.parametrize("component", ["z", "v"])
@pytest.mark.parametrize("method", ["zero", "mean", "resample"])
def test_the_named_head_at_the_named_positions_is_replaced_and_nothing_else(
    model, component, method
):
    asked, reference = questions(1), questions(2, 17)
    name = f"blocks.0.attn.hook_{component}"
    before, pool = activations(model, name, asked), activations(model, name, reference)
    one = Ablation(component, head=1, positions=[4, 7], method=method)
    with model.hooks(fwd_hooks=hooks(model, [one], reference, seed=3)):
        after = activations(model, name, asked)
    changed = torch.zeros(before.shape[1:3], dtype=torch.bool)
    changed[[4, 7], 1] = True
    assert torch.equal(after[:, ~changed], before[:, ~changed])
    new = after[:, [4, 7], 1]
    if method == "zero":
        assert not new.any()
    elif method == "mean":
        assert torch.allclose(new, pool[:, [4, 7], 1].mean(0).expand_as(new), atol=1e-6)
    else:  # whole rows of the pool: both positions come from the same question
        rows = (new[:, None] == pool[None, :, [4, 7], 1]).flatten(2).all(2)
        assert rows.any(1).all()
        assert rows.any(0).sum() > 5


def test_swap_gives_each_question_the_activation_of_its_own_source(model):
    asked, source = questions(1), questions(2)
    late = list(TASK.answer_positions)
    swaps = [
        Ablation("attn_out", positions=late, method="swap"),
        Ablation("mlp_out", positions=late, method="swap"),
    ]
    before = answer(model, asked)
    into_itself = answer(model, asked, batch_size=7, hooks=hooks(model, swaps, asked))
    assert torch.allclose(into_itself.nll, before.nll, atol=1e-5)
    one = Ablation("z", head=2, positions=late, method="swap")
    z, given = (activations(model, one.hook_name, q) for q in (asked, source))
    with model.hooks(fwd_hooks=hooks(model, [one], source)):
        after = activations(model, one.hook_name, asked, batch_size=11)
    assert torch.equal(after[:, late, 2], given[:, late, 2])
    assert torch.equal(after[:, late, :2], z[:, late, :2])
    with pytest.raises(ValueError, match="swap: 40 questions, but only 39 reference questions"):
        answer(model, asked, hooks=hooks(model, [one], questions(2, 39)))


def short_of_memory(value, hook):
    """Late in a forward, memory for four questions."""
    if len(value) > 4:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return value


@pytest.mark.parametrize("method", ["resample", "swap"])
def test_a_batch_that_is_tried_again_gets_the_same_replacements(model, method):
    asked, source = questions(1), questions(2)
    both = [Ablation("z", head=1, method=method), Ablation("mlp_out", method=method)]
    expected = answer(model, asked, batch_size=4, hooks=hooks(model, both, source, seed=3))
    retried = answer(
        model,
        asked,
        batch_size=16,
        hooks=[*hooks(model, both, source, seed=3), ("blocks.0.hook_resid_post", short_of_memory)],
    )
    assert torch.equal(retried.nll, expected.nll)
    name = "blocks.0.attn.hook_z"
    with model.hooks(fwd_hooks=hooks(model, both, source, seed=3)):
        expected = activations(model, name, asked, batch_size=4)
    short = [(name, short_of_memory)]
    with model.hooks(fwd_hooks=[*hooks(model, both, source, seed=3), *short]):
        assert torch.equal(activations(model, name, asked, batch_size=16), expected)


def test_answer_activations_come_by_column(model):
    asked, names = questions(1), ["blocks.0.hook_resid_mid", "blocks.0.attn.hook_z"]
    found = answer_activations(model, names, asked, batch_size=7)
    for name in names:
        whole = activations(model, name, asked)
        for column, position in zip(TASK.answer_columns, TASK.answer_positions, strict=True):
            assert torch.equal(found[name][:, column], whole[:, position])


def test_v_of_a_head_at_all_positions_is_its_z(model):
    asked = questions(1)
    by_v = ablated(model, [Ablation("v", head=2, method="zero")], asked)
    by_z = ablated(model, [Ablation("z", head=2, method="zero")], asked)
    assert torch.allclose(by_v, by_z, atol=1e-6)


def test_one_of_two_heads_that_write_half_each_is_half_a_head(model):
    """Head 1 is made a copy of head 0 in all it reads, and each writes half of what head 0 wrote."""
    asked, reference = questions(1), questions(2)
    half, whole = (Ablation("z", 0, share=share) for share in (0.5, 1.0))
    with torch.no_grad():
        for name, p in weights(model).items():
            if ".attn.o.weight" in name:
                p.view(len(p), 3, -1)[:, 1] = 0  # head 1 writes nothing
    by_half, by_whole = (ablated(model, [one], asked, reference) for one in (half, whole))
    with torch.no_grad():
        for name, p in weights(model).items():
            if ".attn.o.weight" in name:
                heads = p.view(len(p), 3, -1)
                heads[:, 0] /= 2
                heads[:, 1] = heads[:, 0]
            elif any(f".attn.{x}." in name for x in "qkv"):
                heads = p.view(3, -1)
                heads[1] = heads[0]
    both = [Ablation("z", 0), Ablation("z", 1)]
    assert torch.allclose(ablated(model, both[:1], asked, reference), by_half, atol=1e-5)
    assert torch.allclose(ablated(model, both, asked, reference), by_whole, atol=1e-5)
    assert not torch.allclose(by_half, by_whole, atol=1e-3)


def test_half_of_a_zero_is_half_of_what_there_was(model):
    asked = questions(1)
    name = "blocks.0.attn.hook_z"
    before = activations(model, name, asked)
    with model.hooks(fwd_hooks=hooks(model, [Ablation("z", 2, method="zero", share=0.25)])):
        after = activations(model, name, asked)
    assert torch.allclose(after[:, :, 2], 0.75 * before[:, :, 2], atol=1e-6)
    assert torch.equal(after[:, :, :2], before[:, :, :2])


def with_paths(model, asked, source):
    """Logits as they are, edited, edited past the MLP alone, and through it alone."""
    one = [Ablation("z", head=1, method="swap")]
    past, through = past_and_through_mlp(model, one, asked, source)
    runs = [hooks(model, [], source), hooks(model, one, source), past, through]
    out = []
    for edits in runs:
        with model.hooks(fwd_hooks=edits):
            out.append(answer_logits(model, TASK, asked.tokens))
    return out


def test_an_mlp_that_writes_nothing_hands_nothing_on(model):
    with torch.no_grad():
        for name, p in weights(model).items():
            if ".mlp.out." in name:
                p.zero_()
    plain, edited, past, through = with_paths(model, questions(1), questions(2))
    assert torch.allclose(through, plain, atol=1e-6)
    assert torch.allclose(past, edited, atol=1e-6)
    assert not torch.allclose(edited, plain, atol=1e-3)


def test_the_two_paths_of_an_edit_make_up_the_whole(model):
    """Before the last LayerNorm the two changes add up to that of the edit itself."""
    asked, source = questions(1), questions(2)
    one = [Ablation("z", head=1, method="swap")]
    past, through = past_and_through_mlp(model, one, asked, source)
    final = "blocks.0.hook_resid_post"
    changes = []
    for edits in ([], hooks(model, one, source), past, through):
        with model.hooks(fwd_hooks=edits):
            changes.append(activations(model, final, asked, batch_size=len(asked)))
    plain, *edited = changes
    whole, past_it, through_it = (changed - plain for changed in edited)
    assert torch.allclose(past_it + through_it, whole, atol=1e-5)
    assert min(past_it.abs().max(), through_it.abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(component="q"), "component = 'q': must be 'z' or 'v' or 'attn_out' or 'mlp_out'"),
        (dict(component="z"), "head = None: component 'z' needs a head"),
        (dict(component="mlp_out", head=1), "head = 1: component 'mlp_out' has no heads"),
        (dict(head=0, method="noise"), "method = 'noise'"),
        (dict(head=0, share=0.0), "share = 0.0: must be above 0 and at most 1"),
        (dict(head=3, method="zero"), "head = 3: this model has heads 0 to 2"),
        (dict(head=0, layer=1, method="zero"), "layer = 1: this model has layers 0 to 0"),
        (
            dict(head=0, positions=[12], method="zero"),
            "position = 12: this model has positions 0 to 11",
        ),
        (dict(head=0), "reference = None: method 'mean' needs reference questions"),
    ],
)
def test_bad_ablations_are_refused_by_name(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        hooks(model, [Ablation(**arguments)])


def test_an_empty_reference_set_is_refused(model):
    with pytest.raises(ValueError, match="reference = 0: method 'mean' needs reference questions"):
        hooks(model, [Ablation(head=0)], questions(1, 0))


def test_with_the_input_of_another_question_the_model_gives_its_answer(model):
    asked, other = questions(1), questions(2)
    swapped = ablated(model, [Ablation("resid_pre", method="swap")], asked, other)
    assert torch.allclose(swapped, answer_logits(model, TASK, other.tokens), atol=1e-5)

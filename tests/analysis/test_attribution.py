"""Attribution: the parts sum to the logit difference of the untouched model, and each part is what
it says.
"""

import pytest
import torch

from addlib.analysis.attribution import attribute, attribute_neurons, folded
from addlib.models.addition import ModelConfig, answer_logits, build_model
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import uniform_questions


def random_model(task, n_layers=1, attn_only=False):
    """A model all of whose weights are random: LayerNorms with gains and biases too, so that
    folding has work to do.
    """
    model = build_model(ModelConfig(n_layers=n_layers, width=24, attn_only=attn_only), task, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in weights(model).values():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return model


def asked(task, count=40):
    questions = uniform_questions(task, count, torch.Generator().manual_seed(3))
    return questions, (questions.answer + 1) % task.base


def own_difference(model, questions, wrong):
    logits = answer_logits(model, questions.task, questions.tokens)
    return (logits.gather(-1, questions.answer[..., None]) - logits.gather(-1, wrong[..., None]))[
        ..., 0
    ]


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("order", ["msd", "lsd"])
def test_the_parts_sum_to_the_logit_difference_of_the_model_itself(n_layers, order):
    task = AdditionTask(3, answer_order=order)
    model = random_model(task, n_layers)
    questions, wrong = asked(task)
    before = own_difference(model, questions, wrong)
    found = attribute(folded(model), questions, wrong)
    assert torch.allclose(found.parts.sum(0), before, atol=1e-3)
    assert torch.allclose(found.difference, before, atol=1e-3)
    assert before.abs().mean() > 0.1  # there was something to split
    # and the model is as it was
    assert torch.equal(own_difference(model, questions, wrong), before)


def test_each_head_has_its_own_part():
    """A head whose output weights are zero has a part of zero; the other heads have theirs."""
    task = AdditionTask(3)
    model = random_model(task)
    with torch.no_grad():
        weights(model)["blocks.0.attn.o.weight"][:, 8:16] = 0  # head 1 of three
    questions, wrong = asked(task)
    found = attribute(folded(model), questions, wrong)
    assert found.labels == [
        *(
            "L0H0",
            "L0H1",
            "L0H2",
            "embed",
            "pos_embed",
            "0_mlp_out",
            "attention bias",
            "unembedding bias",
        )
    ]
    assert found.part("L0H1").abs().max() < 1e-5
    assert found.part("L0H0").abs().mean() > 1e-2
    # it depends on the digits, not on the question otherwise
    assert found.part("unembedding bias").std(0).max() > 0


def test_neurons_and_their_bias_make_up_the_mlp():
    task = AdditionTask(3)
    model = random_model(task)
    questions, wrong = asked(task)
    with torch.no_grad():
        weights(model)["blocks.0.mlp.out.bias"].zero_()
    twin = folded(model)
    mlp = attribute(twin, questions, wrong).part("0_mlp_out")
    assert torch.allclose(attribute_neurons(twin, questions, wrong).sum(0), mlp, atol=1e-3)


def test_attribution_refuses_a_model_that_is_not_folded():
    task = AdditionTask(3)
    model = random_model(task)
    questions, wrong = asked(task)
    with pytest.raises(ValueError, match="compatibility mode"):
        attribute(model, questions, wrong)

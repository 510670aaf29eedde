"""The short forward against TransformerLens's own, in logits and gradients."""

import pytest
import torch

from addlib.device import choose_device
from addlib.models.addition import ModelConfig, answer_logits, build_model
from addlib.models.bridge import weights
from addlib.models.fast_addition import EPS, FastForward, Rows, aligned_weights
from addlib.stats import answer_nll
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import training_questions


def loss_and_gradients(model, forward, questions):
    model.zero_grad()
    answer_nll(forward(questions.tokens), questions.answer).mean().backward()
    return {name: p.grad.clone() for name, p in weights(model).items()}


def shaken(model, seed):
    """The model with random biases and norms as well: freshly built, those are 0 and 1 and would
    hide mistakes.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in weights(model).values():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model


@pytest.mark.parametrize("answer_order", ["msd", "lsd"])
@pytest.mark.parametrize("attn_only", [False, True])
@pytest.mark.parametrize("n_heads", [2, 3, 4])
@pytest.mark.parametrize("n_digits", [2, 5, 10])
def test_logits_and_gradients_equal_the_librarys(n_digits, n_heads, attn_only, answer_order):
    task = AdditionTask(n_digits, answer_order=answer_order)
    config = ModelConfig(n_heads=n_heads, width=64, attn_only=attn_only)
    model = shaken(build_model(config, task, seed=1), seed=2)
    # A neuron within rounding of its kink has two right gradients; with this seed there is none.
    questions = training_questions(task, 32, 4, torch.Generator().manual_seed(4))
    fast = FastForward(weights(model), config, task)
    library = answer_logits(model, task, questions.tokens)
    assert torch.allclose(fast(questions.tokens), library, atol=1e-5, rtol=1e-5)
    expected = loss_and_gradients(
        model, lambda tokens: answer_logits(model, task, tokens), questions
    )
    measured = loss_and_gradients(model, fast, questions)
    for name in expected:
        assert torch.allclose(measured[name], expected[name], atol=1e-5, rtol=1e-5), name


@pytest.mark.parametrize("attn_only", [False, True])
def test_aligned_weights_are_the_models_own(attn_only):
    task, config = AdditionTask(2), ModelConfig(width=30, attn_only=attn_only)
    model = shaken(build_model(config, task, seed=1), seed=2)
    questions = training_questions(task, 32, 4, torch.Generator().manual_seed(3))
    expected = loss_and_gradients(
        model, lambda tokens: answer_logits(model, task, tokens), questions
    )
    before = answer_logits(model, task, questions.tokens)
    aligned = aligned_weights(model)
    assert torch.equal(answer_logits(model, task, questions.tokens), before)
    optimizer = torch.optim.AdamW(aligned.values(), lr=0.01, weight_decay=0.1)
    optimizer.zero_grad()
    fast = FastForward(aligned, config, task)
    answer_nll(fast(questions.tokens), questions.answer).mean().backward()
    for name, p in weights(model).items():
        inner = tuple(slice(side) for side in p.shape)
        assert all(side % 16 == 0 for side in aligned[name].shape) or ".mlp." not in name
        assert torch.allclose(aligned[name].grad[inner], expected[name], atol=1e-5, rtol=1e-5), name
        assert aligned[name].grad.count_nonzero() == aligned[name].grad[inner].count_nonzero()
    optimizer.step()
    for name, p in weights(model).items():  # the step moved the model, and the zeros stayed
        inner = tuple(slice(side) for side in p.shape)
        assert torch.equal(aligned[name][inner], p)
        assert aligned[name].count_nonzero() == p.count_nonzero()
    assert torch.allclose(
        fast(questions.tokens), answer_logits(model, task, questions.tokens), atol=1e-5
    )
    assert not torch.allclose(fast(questions.tokens), before, atol=1e-3)


@pytest.mark.parametrize("base", [2, 16])
def test_other_bases(base):
    task, config = AdditionTask(3, base), ModelConfig(width=48)
    model = shaken(build_model(config, task, seed=1), seed=2)
    tokens = training_questions(task, 16, 0, torch.Generator().manual_seed(3)).tokens
    assert torch.allclose(
        FastForward(weights(model), config, task)(tokens),
        answer_logits(model, task, tokens),
        atol=1e-5,
    )


def test_full_size_model_equals_the_librarys():
    task, config = AdditionTask(), ModelConfig()
    model = build_model(config, task, seed=1)
    assert model.cfg.eps == EPS
    tokens = training_questions(task, 16, 0, torch.Generator().manual_seed(3)).tokens
    assert torch.allclose(
        FastForward(weights(model), config, task)(tokens),
        answer_logits(model, task, tokens),
        atol=1e-5,
    )


def test_every_weight_matters_to_the_short_forward():
    """The comparison above can fail: shaking any one weight changes the logits beyond its
    tolerance.
    """
    task, config = AdditionTask(2), ModelConfig(width=48)
    model = shaken(build_model(config, task, seed=1), seed=2)
    fast = FastForward(weights(model), config, task)
    tokens = training_questions(task, 16, 4, torch.Generator().manual_seed(3)).tokens
    before = fast(tokens)
    for name, p in weights(model).items():
        kept = p.detach().clone()
        with torch.no_grad():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(4)))
            moved = (fast(tokens) - before).abs().max()
            p.copy_(kept)
        # shifts all scores of a query alike: softmax takes no notice
        if name == "blocks.0.attn.k.bias":
            assert moved < 1e-5
        else:
            assert moved > 1e-4, name


def test_rows_are_the_token_positions_that_occur():
    task = AdditionTask()
    rows = Rows.of(task, torch.device("cpu"))
    token, position = (
        rows.sources[:, : task.d_vocab].argmax(1),
        rows.sources[:, task.d_vocab :].argmax(1),
    )
    assert len(rows.sources) == 3 * 5 * 10 + 2
    assert (rows.sources.sum(1) == 2).all() and (rows.sources[:, : task.d_vocab].sum(1) == 1).all()
    assert position[rows.first_query] == task.answer_positions.start
    tokens = training_questions(task, 64, 4, torch.Generator().manual_seed(3)).tokens[:, :-1]
    index = rows.first + tokens
    assert torch.equal(token[index], tokens)
    assert torch.equal(position[index], torch.arange(task.n_ctx - 1).expand_as(tokens))


def test_two_layers_are_refused():
    task, config = AdditionTask(2), ModelConfig(n_layers=2, width=48)
    with pytest.raises(
        ValueError, match="n_layers = 2: the short forward covers models of one layer"
    ):
        FastForward({}, config, task)


def test_initial_weights_follow_from_the_seed_alone():
    task, config = AdditionTask(2), ModelConfig(width=48)
    torch.manual_seed(1)
    first = weights(build_model(config, task, seed=5))
    torch.manual_seed(2)
    again, other = (
        weights(build_model(config, task, seed=5)),
        weights(build_model(config, task, seed=6)),
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embed.weight"], other["embed.weight"])


def test_default_shape_is_the_papers():
    config = ModelConfig()
    assert (config.d_model, config.d_head, config.d_mlp) == (510, 170, 2040)
    assert ModelConfig(n_heads=4).d_model == 512
    parameters = weights(build_model(config, AdditionTask(), seed=1))
    assert (
        sum(p.numel() for p in parameters.values())
        == 12 * 510 * 2 + 18 * 510 + 4 * 510**2 + 2 * 510 * 2040 + 10 * 510 + 2040 + 510
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_layers": 0}, "n_layers = 0: must be a whole number of at least 1"),
        ({"n_heads": -1}, "n_heads = -1"),
        ({"width": 2.5}, "width = 2.5"),
        ({"n_heads": 8, "width": 4}, "n_heads = 8: must be at most width = 4"),
        ({"attn_only": 1}, "attn_only = 1: must be True or False"),
    ],
)
def test_bad_models_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**arguments)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "cuda:x", "cpu:1", ""])
def test_devices_that_are_not_there_are_refused(device):
    with pytest.raises(ValueError, match="device = "):
        choose_device(device)
    assert choose_device("cpu") == torch.device("cpu")

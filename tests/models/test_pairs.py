"""The pair task against plain Python, its split, its model, and the short forward against
TransformerLens's own.
"""

import math

import pytest
import torch

from addlib.models.bridge import weights
from addlib.models.pairs import (
    PairForward,
    PairModelConfig,
    accuracy,
    build_pair_model,
    embedded_logits,
    logits_from,
    loss_and_gradient,
    pair_logits,
    pair_paths,
)
from addlib.tasks.pairs import PairTask, split

SMALL = PairModelConfig(n_heads=4, width=32)
PATHS = ("keys", "values", "direct")


def shaken(model, seed=2):
    """The model in float64 with random trained biases: freshly built, those are 0 and would hide
    mistakes.
    """
    model, generator = model.double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in weights(model).values():
            if p.requires_grad:
                p.add_(0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


@pytest.mark.parametrize("modular", [False, True])
@pytest.mark.parametrize("p", [2, 7, 10])
def test_questions_and_answers_equal_plain_python(p, modular):
    task = PairTask(p, modular)
    pairs = task.pairs()
    assert pairs.tolist() == [[a, b] for a in range(p) for b in range(p)]
    assert task.answers(pairs).tolist() == [
        (a + b) % p if modular else a + b for a in range(p) for b in range(p)
    ]
    assert task.tokens(pairs).tolist() == [[a, b, p] for a in range(p) for b in range(p)]
    assert (task.d_vocab, task.equals, task.n_ctx, task.n_outputs) == (
        p + 1,
        p,
        3,
        p if modular else 2 * p,
    )
    assert int(task.answers(pairs).max()) < task.n_outputs


def test_embedded_numbers_are_answered_as_the_numbers():
    task = PairTask(7, modular=True)
    model = shaken(build_pair_model(SMALL, task, seed=3))
    values = {name: p.detach() for name, p in weights(model).items()}
    a, b = task.pairs().T
    numbers = values["embed.weight"]
    logits = embedded_logits(values, SMALL, numbers[a], numbers[b])
    assert torch.allclose(logits, pair_logits(model, task, task.pairs()))


def test_the_split_is_a_partition_that_follows_from_its_seed_alone():
    task = PairTask(10)
    torch.manual_seed(1)
    train, test = split(task, 0.72, 598)
    assert (len(train), len(test)) == (72, 28)
    assert sorted(train.tolist() + test.tolist()) == list(range(100))
    torch.manual_seed(2)
    again, _ = split(task, 0.72, 598)
    assert torch.equal(train, again)
    assert not torch.equal(train, split(task, 0.72, 599)[0])
    more, _ = split(task, 0.9, 598)  # the same shuffle: a larger share only adds pairs
    assert torch.equal(more[:72], train)
    assert len(split(task, 0.29, 0)[0]) == 29  # 0.29 · 100 is 28.999… in floating point
    assert len(split(PairTask(113, True), 0.3, 598)[0]) == 3830


@pytest.mark.parametrize("seed", [0, 1, 598])
def test_a_pair_and_its_mirror_are_on_one_side_of_an_unordered_split(seed):
    task = PairTask(10)
    sides = split(task, 0.72, seed, unordered=True)
    assert sorted(torch.cat(sides).tolist()) == list(range(100))
    for side in sides:
        pairs = {divmod(number, 10) for number in side.tolist()}
        assert {(b, a) for a, b in pairs} == pairs
    assert len({tuple(sorted(divmod(n, 10))) for n in sides[0].tolist()}) == 39  # of 55
    assert not torch.equal(sides[0], split(task, 0.72, seed + 1, unordered=True)[0])
    train, test = split(task, 0.72, seed)
    mirrors = 10 * (test % 10) + test // 10
    assert torch.isin(mirrors, train).any(), "an ordered split does not separate them"


@pytest.mark.parametrize("unordered", [True, False])
@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), 0.001, 1e-9])
def test_shares_that_leave_a_side_empty_are_refused(share, unordered):
    with pytest.raises(
        ValueError,
        match=r"share = .*must be between 0 and 1 and leave pairs of p = 10 on both sides",
    ):
        split(PairTask(10), share, 0, unordered)


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (PairTask, {"p": 1}, "p = 1: must be a whole number of at least 2"),
        (PairTask, {"p": 2.0}, "p = 2.0"),
        (PairTask, {"p": True}, "p = True"),
        (PairTask, {"modular": 1}, "modular = 1: must be True or False"),
        (PairModelConfig, {"n_heads": 0}, "n_heads = 0: must be a whole number of at least 1"),
        (PairModelConfig, {"width": 1.5}, "width = 1.5"),
        (PairModelConfig, {"n_heads": 3, "width": 128}, "n_heads = 3: must divide width = 128"),
    ],
)
def test_bad_tasks_and_models_are_refused_by_name(build, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_the_model_is_one_layer_without_norms_and_its_frozen_biases_are_zero():
    task = PairTask(113, True)
    named = weights(build_pair_model(PairModelConfig(), task, seed=1))
    assert not [name for name in named if ".ln" in name or name.startswith("ln")]
    trained = {name: tuple(p.shape) for name, p in named.items() if p.requires_grad}
    assert trained == {
        "embed.weight": (114, 128),
        "pos_embed.weight": (3, 128),
        **{f"blocks.0.attn.{name}.weight": (128, 128) for name in "qkvo"},
        "blocks.0.mlp.in.weight": (512, 128),
        "blocks.0.mlp.out.weight": (128, 512),
        "unembed.weight": (113, 128),
    }
    assert all(not p.any() for name, p in named.items() if name not in trained)
    free = weights(build_pair_model(PairModelConfig(), task, seed=1, biases=True))
    assert all(p.requires_grad for p in free.values())
    assert all(torch.equal(p, named[name]) for name, p in free.items())
    torch.manual_seed(7)
    again = weights(build_pair_model(PairModelConfig(), task, seed=1))
    assert all(torch.equal(p, named[name]) for name, p in again.items())


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("modular", [False, True])
@pytest.mark.parametrize(("p", "heads"), [(2, 1), (9, 4), (10, 2)])
def test_short_forward_equals_the_librarys_in_logits_and_gradients(p, heads, modular, biases):
    task, config = PairTask(p, modular), PairModelConfig(heads, 32)
    model = shaken(build_pair_model(config, task, seed=1, biases=biases))
    pairs = task.pairs()[split(task, 0.6, 3)[0]]
    short = PairForward(weights(model), config, task)
    gradients = []
    for logits in (pair_logits(model, task, pairs), short(pairs)):
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits, task.answers(pairs)).backward()
        gradients.append(
            {name: w.grad.clone() for name, w in weights(model).items() if w.requires_grad}
        )
    assert torch.allclose(short(pairs), pair_logits(model, task, pairs), atol=1e-11, rtol=0)
    assert (len(gradients[1]) == len(weights(model))) == biases
    for name, expected in gradients[0].items():
        assert expected.abs().max() > 1e-4 or name.endswith("k.bias"), name
        assert torch.allclose(gradients[1][name], expected, atol=1e-11, rtol=0), name


def test_short_forward_at_full_size_in_float32():
    task, config = PairTask(113, True), PairModelConfig()
    model = build_pair_model(config, task, seed=1)
    short = PairForward(weights(model), config, task)
    assert torch.allclose(short(task.pairs()), pair_logits(model, task, task.pairs()), atol=1e-5)


def test_every_weight_matters_to_the_short_forward():
    """The comparisons above can fail: moving any one weight changes the logits beyond their
    tolerance.
    """
    task = PairTask(7, True)
    model = shaken(build_pair_model(SMALL, task, seed=1, biases=True))
    short = PairForward(weights(model), SMALL, task)
    with torch.no_grad():
        before = short(task.pairs())
        for name, p in weights(model).items():
            kept = p.clone()
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(4)))
            moved = (short(task.pairs()) - before).abs().max()
            p.copy_(kept)
            # shifts all scores of a query alike: softmax takes no notice
            if name == "blocks.0.attn.k.bias":
                assert moved < 1e-10
            else:
                assert moved > 1e-3, name


def test_loss_and_gradient_equal_autograds():
    logits = (5 * torch.randn(40, 9, generator=torch.Generator().manual_seed(0))).requires_grad_()
    answers = torch.arange(40) % 9
    expected = torch.nn.functional.cross_entropy(logits.double(), answers)
    expected.backward()
    loss, gradient = loss_and_gradient(logits.detach(), answers)
    assert loss.dtype == torch.float64 and gradient.dtype == torch.float32
    assert torch.allclose(loss, expected.detach(), rtol=1e-12)
    assert torch.allclose(gradient, logits.grad, atol=1e-9, rtol=1e-6)
    uniform, _ = loss_and_gradient(torch.zeros(5, 20), torch.arange(5))
    assert uniform.item() == pytest.approx(math.log(20), rel=1e-12)


def test_a_loss_below_the_resolution_of_float32_is_kept():
    logits = torch.zeros(2, 3)
    logits[:, 1] = 25.0
    loss, gradient = loss_and_gradient(logits, torch.tensor([1, 1]))
    assert loss.item() == pytest.approx(math.log1p(2 * math.exp(-25)), rel=1e-4)
    # two wrong logits, a mean of two
    assert gradient[0, 1].item() == pytest.approx(-math.exp(-25), rel=1e-4)


def test_accuracy_counts_largest_logits():
    logits = torch.tensor([[1.0, 2.0, 0.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0], [9.0, 0.0, 0.0]])
    assert accuracy(logits, torch.tensor([1, 0, 2, 1])).item() == 0.75


# ------------------------------------------------------------------------ paths
@pytest.mark.parametrize("biases", [False, True])
def test_paths_without_replacements_are_the_model(biases):
    task = PairTask(6)
    model = shaken(build_pair_model(SMALL, task, 3, biases=biases))
    names = ["blocks.0.attn.hook_pattern", "blocks.0.hook_resid_mid", "blocks.0.mlp.hook_pre"]
    logits, cache = model.run_with_cache(task.tokens(task.pairs()), names_filter=names)
    paths = pair_paths(weights(model), SMALL, task)
    assert torch.allclose(paths.logits, logits[:, -1])
    assert torch.allclose(paths.pattern, cache[names[0]][:, :, -1].transpose(1, 2))
    assert torch.allclose(paths.mid, cache[names[1]][:, -1])
    assert torch.allclose(paths.pre, cache[names[2]][:, -1])
    assert torch.allclose(logits_from(weights(model), paths.mid), paths.logits)
    assert torch.equal(
        pair_paths(weights(model), SMALL, task, pattern=paths.pattern).logits, paths.logits
    )


def test_other_embeddings_on_all_paths_are_a_model_with_other_embeddings():
    task = PairTask(5)
    model = shaken(build_pair_model(SMALL, task, 3, biases=True))
    own = {name: p.detach().clone() for name, p in weights(model).items()}
    other = torch.randn(5, 32, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    changed = own | {"embed.weight": torch.cat([other, own["embed.weight"][5:]])}
    everywhere = pair_paths(own, SMALL, task, keys=other, values=other, direct=other)
    assert torch.allclose(everywhere.logits, pair_paths(changed, SMALL, task).logits)
    plain = pair_paths(own, SMALL, task)
    assert not torch.allclose(everywhere.logits, plain.logits, atol=1e-3)
    # Each path by itself changes what comes after it, and nothing else.
    of_keys, of_values, of_direct = (
        pair_paths(own, SMALL, task, **{name: other}) for name in PATHS
    )
    assert torch.equal(of_values.pattern, plain.pattern)
    assert not torch.allclose(of_keys.pattern, plain.pattern, atol=1e-3)
    assert torch.equal(of_direct.mid, plain.mid)
    assert not torch.allclose(of_direct.logits, plain.logits, atol=1e-3)
    assert not torch.allclose(of_values.logits, plain.logits, atol=1e-3)
    # The MLP's part and the direct part add up.
    assert torch.allclose(
        of_values.logits - plain.logits + of_direct.logits,
        pair_paths(own, SMALL, task, values=other, direct=other).logits,
    )


def test_one_pattern_for_all_pairs_makes_the_residual_stream_a_sum_of_two_tables():
    task = PairTask(5)
    model = shaken(build_pair_model(SMALL, task, 3))
    even = pair_paths(
        weights(model), SMALL, task, pattern=torch.full((1, 3, 4), 1 / 3, dtype=torch.float64)
    )
    table = even.mid.view(5, 5, 32)
    assert torch.allclose(table + table[:1, :1], table[:, :1] + table[:1])
    own = pair_paths(weights(model), SMALL, task).mid.view(5, 5, 32)
    assert not torch.allclose(own + own[:1, :1], own[:, :1] + own[:1], atol=1e-3)
    assert even.pattern.shape == (25, 3, 4)


def test_without_biases_only_the_direction_of_the_residual_stream_counts():
    task = PairTask(5)
    for biases in (False, True):
        model = shaken(build_pair_model(SMALL, task, 3, biases=biases))
        mid = pair_paths(weights(model), SMALL, task).mid
        same = torch.allclose(
            logits_from(weights(model), 3 * mid), 3 * logits_from(weights(model), mid)
        )
        assert same is not biases

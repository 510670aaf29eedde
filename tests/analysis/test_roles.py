"""Roles: attention on pairs counted by hand, stairs planted, permuted heads, a trained model's
patterns.
"""

import pytest
import torch

from addlib.analysis.roles import (
    Role,
    addresses,
    answer_patterns,
    find_roles,
    heads_at,
    pair_attention,
    role_labels,
    roles_by_name,
    stairs,
)
from addlib.models.addition import ModelConfig, build_model
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import uniform_questions


def staircase(task, offset, share):
    """A pattern with that share of attention on the pair at that offset, halved over its digits,
    the rest on ``=``.
    """
    n = task.n_digits
    pattern = torch.zeros(task.n_answer, task.n_ctx)
    for k in range(task.n_answer):
        j = k + offset
        if 0 <= j < n:
            pattern[k, task.token_names.index(f"D{j}")] = share / 2
            pattern[k, task.token_names.index(f"D'{j}")] = share / 2
        pattern[k, 2 * n + 1] = 1 - pattern[k].sum()
    return pattern


@pytest.mark.parametrize("n_digits", [2, 5, 10])
@pytest.mark.parametrize("down", [0, 1, 2])
def test_a_planted_staircase_is_found_at_its_offset(n_digits, down):
    if down >= n_digits:
        return
    task = AdditionTask(n_digits)
    pairs = pair_attention(staircase(task, -down, 0.8), task)
    shares = stairs(pairs)
    assert shares[down] == pytest.approx(0.8)
    assert shares.sum() == pytest.approx(0.8)
    assert pairs[down, 0] == pytest.approx(0.8)  # A_down looks at the units pair


def test_addresses_are_the_planted_ones_digit_by_digit():
    task = AdditionTask(5)
    pattern = staircase(task, -1, 0.8)
    pattern[5] = staircase(task, -2, 0.8)[5]
    pattern[3] = staircase(task, -1, 0.4)[3]  # too little attention to be an address
    assert addresses(pattern, task) == [None, -1, -1, None, -1, -2]


def test_a_digit_at_whose_pair_no_head_looks_has_no_head():
    task = AdditionTask(5)
    carry, far = staircase(task, -1, 0.8), staircase(task, -2, 0.9)
    carry[5], far[5] = far[5].clone(), carry[5].clone()  # they change places at the top
    carry[3] = staircase(task, -1, 0.4)[3]  # too little attention
    second = staircase(task, -1, 0.6)
    second[3] = 0
    pattern = torch.stack([far, second, carry])
    assert heads_at(pattern, task, -1) == [None, 2, 2, None, 2, 0]
    assert heads_at(pattern, task, -2) == [None, None, 0, 0, 0, 2]
    assert heads_at(pattern, task, 0) == [None] * 6


def test_patterns_are_the_librarys_at_the_answer_positions():
    for order in ("msd", "lsd"):
        task = AdditionTask(3, answer_order=order)
        model = build_model(ModelConfig(width=24), task, seed=1)
        questions = uniform_questions(task, 10, torch.Generator().manual_seed(1))
        _, cache = model.run_with_cache(questions.tokens)
        patterns = answer_patterns(model, questions, batch_size=3)
        for position, column in zip(task.answer_positions, task.answer_columns, strict=True):
            assert torch.allclose(
                patterns[:, :, column], cache["blocks.0.attn.hook_pattern"][:, :, position]
            )
        assert torch.allclose(patterns.sum(-1), torch.ones(()))


def test_roles_are_the_same_under_a_permutation_of_the_heads():
    task, config = AdditionTask(3), ModelConfig(width=24)
    model = build_model(config, task, seed=1)
    with torch.no_grad():
        for p in weights(model).values():
            p.mul_(4)  # far from uniform attention
    questions = uniform_questions(task, 100, torch.Generator().manual_seed(1))
    before = find_roles(model, questions)
    permutation = torch.tensor([2, 0, 1])
    with torch.no_grad():
        for name, p in weights(model).items():
            if ".attn.o.weight" in name:
                p.copy_(p.unflatten(1, (3, -1))[:, permutation].flatten(1))
            elif any(f".attn.{x}." in name for x in "qkv"):
                p.copy_(p.unflatten(0, (3, -1))[permutation].flatten(0, 1))
    after = find_roles(model, questions)
    place = permutation.argsort().tolist()
    assert sorted((r.offset is None, r.offset, place[r.head]) for r in before) == sorted(
        (r.offset is None, r.offset, r.head) for r in after
    )
    shares = {place[r.head]: r.share for r in before}
    assert all(shares[r.head] == pytest.approx(r.share, abs=1e-5) for r in after)


def test_every_head_has_a_label_of_its_own_and_a_name_is_that_of_the_first():
    heads = [Role(0, -1, 2, 0.9), Role(0, -1, 0, 0.6), Role(0, None, 1, 0.2)]
    assert role_labels(heads) == ["carry", "carry (2)", "no role"]
    assert roles_by_name(heads) == {"carry": heads[0], "none": heads[2]}
    heads.append(Role(1, -1, 0, 0.8))
    assert role_labels(heads) == [
        "layer 0, carry",
        "layer 0, carry (2)",
        "layer 0, no role",
        "layer 1, carry (3)",
    ]

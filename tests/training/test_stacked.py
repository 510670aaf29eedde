"""Stacked trainings against the plain ones, step by step, without a graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from addlib.models.addition import ModelConfig
from addlib.models.bridge import weights
from addlib.models.pairs import PairModelConfig
from addlib.tasks.addition import AdditionTask
from addlib.tasks.pairs import PairTask
from addlib.training.addition import TrainConfig
from addlib.training.pairs import PairConfig
from addlib.training.stacked import stack_key, stacked_trainer

DIGITS = TrainConfig(
    AdditionTask(3),
    ModelConfig(n_heads=2, width=20),
    steps=24,
    batch_size=16,
    lr=1e-3,
    warmup_steps=3,
    final_lr_share=0.5,
    snapshot_every=10,
)
NUMBERS = PairConfig(
    PairTask(7, modular=True),
    PairModelConfig(n_heads=2, width=16),
    share=0.5,
    epochs=24,
    test_every=5,
    snapshot_every=10,
)
TWO_LAYERS = replace(DIGITS, model=replace(DIGITS.model, n_layers=2))
STACKS = {
    "one": [DIGITS],
    "three that differ in all they may": [
        DIGITS,
        replace(DIGITS, seed=2, task=AdditionTask(3, carry=False), lr=5e-4, weight_decay=0.5),
        replace(DIGITS, seed=3, dataset_size=64, enrich_every=0, steps=12, snapshot_every=4),
    ],
    "without MLP": [
        replace(DIGITS, model=replace(DIGITS.model, attn_only=True), seed=s) for s in (1, 2)
    ],
    "two layers": [replace(TWO_LAYERS, seed=seed) for seed in (1, 2)],
    "pairs": [
        NUMBERS,
        replace(NUMBERS, seed=2, data_seed=3, lr=2e-3, weight_decay=0.0, epochs=12),
    ],
    "pairs with biases": [replace(NUMBERS, biases=True, task=PairTask(7))],
    "three that are treated alike": [replace(DIGITS, seed=seed) for seed in (1, 2, 3)],
    "pairs that are treated alike": [replace(NUMBERS, seed=seed) for seed in (1, 2)],
}


def assert_same(given, expected) -> None:
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            given[name], value, atol=1e-5, rtol=1e-4, equal_nan=True, check_dtype=True, msg=name
        )


def trained(model) -> dict[str, torch.Tensor]:
    """A model's weights but for the keys' biases: they have no effect, so Adam follows rounding."""
    return {name: p for name, p in weights(model).items() if not name.endswith("k.bias")}


def plain(config):
    trainer = config.trainer("cpu")
    trainer.train()
    return trainer


@pytest.mark.parametrize("configs", STACKS.values(), ids=STACKS)
def test_each_model_is_the_one_that_is_trained_alone(configs):
    """Losses of the first ten steps to 1e-5, all other metrics, and the weights at the end."""
    stack = stacked_trainer(configs, "cpu")
    stack.advance(max(config.steps for config in configs))
    for number, config in enumerate(configs):
        alone = plain(config)
        history = stack.finished(number)
        assert (history.loss[:10] - alone.history.loss[:10]).abs().max() < 1e-5
        assert_same(history.tensors(), alone.history.tensors())
        assert_same(trained(stack.models[number]), trained(alone.model))


def test_a_stop_rule_ends_one_training_and_not_the_other():
    rule = {"stop_for": 20, "epochs": 150, "test_every": 5, "snapshot_every": 10}
    configs = [
        replace(NUMBERS, stop_below=8.0, **rule),
        replace(NUMBERS, stop_below=1e-9, seed=2, **rule),
        replace(NUMBERS, seed=3, **rule),
    ]
    stack = stacked_trainer(configs, "cpu")
    stack.advance(150)
    stack.look()
    for number, config in enumerate(configs):
        alone = plain(config)
        assert stack.ends[number] == alone.step
        assert_same(stack.finished(number).tensors(), alone.history.tensors())
        assert_same(trained(stack.models[number]), trained(alone.model))
    assert stack.ends[0] < 150


@pytest.mark.parametrize("configs", STACKS.values(), ids=STACKS)
def test_a_state_goes_on_in_a_stack_and_alone(configs):
    configs = [config for config in configs if config.steps == 24]
    whole = stacked_trainer(configs, "cpu")
    whole.advance(24)
    first = stacked_trainer(configs, "cpu")
    first.advance(10)
    states = [first.state(number) for number in range(len(configs))]
    again = stacked_trainer(configs, "cpu")
    again.restore(states)
    assert again.step == 10
    again.advance(24)
    alone = configs[0].trainer("cpu")
    alone.restore(states[0])
    alone.train()
    for number in range(len(configs)):
        assert_same(again.finished(number).tensors(), whole.finished(number).tensors())
        assert_same(trained(again.models[number]), trained(whole.models[number]))
    assert_same(alone.history.tensors(), whole.finished(0).tensors())
    assert alone.state().keys() == states[0].keys()


@pytest.mark.parametrize(
    ("change", "whole"),
    [
        ({"seed": 2}, True),
        ({"lr": 5e-4}, False),
        ({"weight_decay": 0.5}, False),
        ({"steps": 12}, False),
    ],
)
def test_weights_are_updated_as_a_whole_where_models_are_treated_alike(change, whole):
    stack = stacked_trainer([DIGITS, replace(DIGITS, **change)], "cpu")
    assert len(stack.optimizer.param_groups) == (1 if whole else 2)


def test_a_stop_rule_needs_a_group_for_each_model():
    for stop_below, groups in ((None, 1), (1e-3, 2)):
        configs = [replace(NUMBERS, stop_below=stop_below, seed=seed) for seed in (1, 2)]
        assert len(stacked_trainer(configs, "cpu").optimizer.param_groups) == groups


def test_what_is_not_of_one_shape_is_refused():
    for configs in ([DIGITS, TWO_LAYERS], [DIGITS, NUMBERS], [replace(DIGITS, precision="bf16")]):
        with pytest.raises(ValueError, match="of one shape, in fp32"):
            stacked_trainer(configs, "cpu")
    assert stack_key(DIGITS) == stack_key(replace(DIGITS, seed=5, weight_decay=0.0, steps=7))

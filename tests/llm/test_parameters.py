"""How many numbers a language model has: output weights count unless they are the embedding's again."""

import pytest
import torch

from addlib.llm.load import CHARACTERS, LLM, RANDOM_SOURCE, bridged, random_model, random_tokenizer

WIDTH = 32
"""Of the random model's residual stream."""


def counted(prepare=lambda model: None):
    """What is counted for a random model that something was done to, and all its tensors' numbers."""
    model = random_model()
    prepare(model)
    every = sum(part.numel() for part in model.parameters())  # one tensor used twice counts once
    tokenizer = random_tokenizer()
    bridge, parity = bridged(model, tokenizer, "tiny")
    return LLM(bridge, tokenizer, RANDOM_SOURCE, parity).n_parameters, every


def tie(model):
    model.lm_head.weight = model.model.embed_tokens.weight


@torch.no_grad()
def round_twice(model, step):
    """The embedding's weights again, to steps of a share of their size."""
    weight = model.model.embed_tokens.weight
    size = step * weight.std()
    model.lm_head.weight.copy_((weight / size).round() * size)


def test_output_weights_of_their_own_count():
    found, every = counted()
    assert found == every
    assert every > counted(tie)[0]


def test_one_tensor_for_both_counts_once():
    found, every = counted(tie)
    assert found == every == counted()[1] - len(CHARACTERS) * WIDTH


@pytest.mark.parametrize(("step", "again"), [(0.2, True), (2.0, False)])
def test_the_embedding_rounded_anew_counts_once(step, again):
    found, every = counted(lambda model: round_twice(model, step))
    assert (found < every) == again
    assert found == every - again * len(CHARACTERS) * WIDTH

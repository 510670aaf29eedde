"""Pairs of prompts patched a few at a time: the same numbers, and known ones at both ends."""

import pytest
import torch

from addlib.llm.grading import SharedStart
from addlib.llm.load import RANDOM, load_llm
from addlib.llm.pairs import estimated_effects, prompt_pairs, restored_by_streams
from addlib.llm.prompts import few_shot, problems
from addlib.patching.relevance import relevance_patch
from addlib.patching.sweep import Patcher


@pytest.fixture(scope="module")
def case():
    llm = load_llm(RANDOM, device="cpu")
    form = few_shot(count=2)
    pairs = prompt_pairs(form, llm.tokenizer, problems((2, 1), 40), 0).first(5)
    return llm, SharedStart(llm, form), pairs


@pytest.mark.parametrize("batch_size", [2, 8])
def test_estimates_do_not_depend_on_how_many_pairs_run_together(case, batch_size):
    llm, _, pairs = case
    kinds = ("z", "mlp_out")
    found = estimated_effects(relevance_patch, llm.bridge, kinds, pairs, batch_size)
    ends = (pairs.corrupted, pairs.clean)
    whole = relevance_patch(llm.bridge, kinds, *ends, pairs.difference)
    for kind in kinds:
        assert torch.allclose(found[kind], whole[kind].effect(), atol=1e-5)


def test_all_positions_restore_everything_and_none_nothing(case):
    _, start, pairs = case
    everything = restored_by_streams(start, pairs, [0, 1], slice(None))
    assert torch.allclose(everything, torch.ones(5, 2), atol=1e-3)
    nothing = restored_by_streams(start, pairs, [0, 1], slice(2, 2))
    assert torch.allclose(nothing, torch.zeros(5, 2), atol=1e-3)


def test_one_position_restores_what_a_sweep_says(case):
    llm, start, pairs = case
    found = restored_by_streams(start, pairs, [1], slice(-1, None))
    swept = Patcher(llm.bridge, pairs.corrupted, pairs.clean)
    expected = swept.restored("resid_pre", pairs.difference, layers=[1])[0, -1]
    assert torch.allclose(found[:, 0], expected, atol=1e-3)

"""Patches of some groups: those of whole sweeps, and ranks counted by hand."""

import pytest
import torch

from addlib.llm.load import RANDOM, load_llm
from addlib.llm.pairs import prompt_pairs
from addlib.llm.prompts import few_shot, problems
from addlib.patching.groups import GroupPatches, strongest_groups, thirds
from addlib.patching.sweep import Patcher


@pytest.fixture(scope="module")
def case():
    llm = load_llm(RANDOM, device="cpu")  # two layers, two groups of two heads
    form = few_shot(count=2)
    pairs = prompt_pairs(form, llm.tokenizer, problems((2, 1), 40), 0).first(5)
    return Patcher(llm.bridge, pairs.corrupted, pairs.clean), pairs.difference


def test_thirds_of_the_layers():
    assert [*map(list, thirds(7))] == [[0, 1], [2, 3, 4], [5, 6]]
    assert [*map(list, thirds(2))] == [[0], [], [1]]


def test_the_strongest_groups_of_each_third():
    sizes = torch.tensor([[1.0, 0, 3, 3], [9, 9, 0, 0], [0, 1, 2, 2]])  # (layer, head)
    assert strongest_groups(sizes, 2, 1) == [(0, 1), (1, 0), (2, 1)]
    assert strongest_groups(sizes, 2, 4) == [(0, 1), (0, 0), (1, 0), (1, 1), (2, 1), (2, 0)]


def test_patches_of_groups_are_those_of_whole_sweeps(case):
    patcher, metric = case
    found = GroupPatches.of(patcher, metric, [(1, 1), (0, 0), (1, 1), (7, 0), (0, 5)])
    assert found.layer.tolist() == [1, 0]
    assert found.number.tolist() == [1, 0]
    for kind in ("z", "pattern"):
        whole = patcher.restored(kind, metric)  # (layer, head, pair)
        expected = torch.stack([whole[1, 2:], whole[0, :2]])
        assert torch.allclose(getattr(found, kind), expected, atol=1e-5)
    values = patcher.restored("v", metric)
    assert torch.allclose(found.v, torch.stack([values[1, 1], values[0, 0]]), atol=1e-5)
    assert torch.equal(found.first(1).z, found.z[:1])


def test_a_rank_is_the_place_by_size(case):
    patcher, metric = case
    found = GroupPatches.of(patcher, metric, [(1, 1), (0, 0)])
    z = torch.tensor([[[5.0, -5.0], [-3.0, -3.0]], [[1.0, 1.0], [4.0, 4.0]]])
    found = GroupPatches(found.layer, found.number, z, z, z[:, 0])
    assert found.rank(0, 1) == 1  # 4
    assert found.rank(1, 3) == 2  # -3
    assert found.rank(0, 0) == 3  # 1
    assert found.rank(1, 2) == 4  # 0 on average
    assert found.rank(1, 2, torch.tensor([0])) == 1
    assert found.rank(0, 3) == 5, "not tried"

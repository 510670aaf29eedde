"""Rules of neurons: a planted one is found, noise follows none, and equal digits separate nothing."""

import pytest
import torch

from addlib.llm.neuron_rules import best_rules, kind_of, rules, separation
from addlib.llm.prompts import MULTIPLY, few_shot, problems

FORM = few_shot(MULTIPLY, 0)
ASKED = problems((2, 1), 600)
BY = rules(FORM, ASKED)
FIT = torch.arange(600) % 2 == 0


def planted(name, label, noise=0.3):
    """A neuron that is active in one class, with noise."""
    generator = torch.Generator().manual_seed(3)
    return (BY[name] == label).float()[:, None] + noise * torch.randn(600, 1, generator=generator)


@pytest.mark.parametrize("name", ["last digit of the result", "b", "result mod 7"])
def test_a_planted_type_is_found(name):
    label = int(BY[name].mode().values)
    found = best_rules(10 * planted(name, label, 0.1), BY, FIT)
    assert found.names[int(found.rule)] == name
    assert found.typed().all()
    assert int(found.peak) == label
    assert found.counts()[kind_of(name)] == 1


def test_noise_follows_no_rule_and_permuted_labels_explain_nothing():
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(600, 50, generator=generator)
    assert not best_rules(noise, BY, FIT).typed(0.1).any()
    permuted = {name: of[torch.randperm(600, generator=generator)] for name, of in BY.items()}
    assert not best_rules(planted("b", 7, 0.1), permuted, FIT).typed(0.1).any()


def test_classes_are_those_of_the_problem():
    classes = rules(FORM, [(48, 9), (21, 3), (99, 9)])
    assert classes["last digit of the result"].tolist() == [2, 3, 1]
    assert classes["first digit of the result"].tolist() == [4, 6, 8]
    assert classes["range of a"].tolist() == [4, 2, 9]
    assert classes["result mod 7"].tolist() == [432 % 7, 63 % 7, 891 % 7]
    assert classes["range of the result"].diff().tolist()[0] < 0


def test_separation_is_that_of_the_classes():
    activations = torch.tensor([[0.0, 1.0], [0.0, 2.0], [1.0, 1.0], [1.0, 2.0]])
    ratio = separation(activations, torch.tensor([0, 0, 1, 1]))
    assert ratio[0] > 1e6
    assert ratio[1] == 0

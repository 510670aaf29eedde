"""Rules that say when a neuron is active: ranges, remainders and digits of a problem and its answer.

Nikankin et al. (2024) find that language models calculate with a bag of such rules. A rule sorts
problems into classes; a neuron follows it as far as the means of the classes, taken over some
problems, say what it does on others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.llm.prompts import Form, Problem

Classes = Int[Tensor, " problem"]

REMAINDERS = (3, 4, 6, 7, 8, 9)
"""Divisors whose remainders are rules of their own; 2 and 5 are told by the last digit."""


def rules(form: Form, asked: Sequence[Problem]) -> dict[str, Classes]:
    """The class of each problem by each rule; the range of results has ten equally full classes."""
    a, b = torch.tensor(asked).unbind(1)
    result = torch.tensor([int(form.answer(problem)) for problem in asked])
    cuts = torch.quantile(result.double(), torch.arange(1, 10).double() / 10)
    return {
        "range of the result": torch.bucketize(result.double(), cuts),
        "first digit of the result": torch.tensor([int(str(one)[0]) for one in result.tolist()]),
        "last digit of the result": result % 10,
        "range of a": a // 10,
        "last digit of a": a % 10,
        "b": b,
    } | {f"result mod {n}": result % n for n in REMAINDERS}


def kind_of(rule: str) -> str:
    """What kind a rule is of: remainders are one kind, whatever the divisor."""
    return "remainder" if rule.startswith("result mod ") else rule


def class_means(
    activations: Float[Tensor, "problem neuron"], classes: Classes, fit: Bool[Tensor, " problem"]
) -> Float[Tensor, "class neuron"]:
    """Mean activations in each class, over the problems fitted to; the overall mean where none is."""
    means = activations[fit].mean(0).repeat(int(classes.max()) + 1, 1)
    for label in classes[fit].unique().tolist():
        means[label] = activations[fit & (classes == label)].mean(0)
    return means


def explained(
    activations: Float[Tensor, "problem neuron"],
    by: Mapping[str, Classes],
    fit: Bool[Tensor, " problem"],
) -> Float[Tensor, "rule neuron"]:
    """The share of each neuron's variance that each rule explains, of problems not fitted to.

    0 is what the mean of the problems fitted to explains; a rule may do worse than that.
    """
    left = activations[~fit]
    total = (left - activations[fit].mean(0)).square().sum(0).clamp(min=1e-12)
    found = []
    for classes in by.values():
        missed = left - class_means(activations, classes, fit)[classes[~fit]]
        found.append(1 - missed.square().sum(0) / total)
    return torch.stack(found)


@dataclass(frozen=True)
class Typed:
    """Neurons and the rules that they follow best."""

    names: list[str]  # of the rules
    rule: Int[Tensor, " neuron"]  # the best one
    share: Float[Tensor, " neuron"]  # of the variance that it explains, of problems left out
    peak: Int[Tensor, " neuron"]  # its class whose mean is furthest from the mean of all

    def typed(self, least: float = 0.5) -> Bool[Tensor, " neuron"]:
        """Which neurons a rule explains well enough."""
        return self.share >= least

    def counts(self, least: float = 0.5) -> dict[str, int]:
        """Typed neurons by rule, remainders together."""
        kinds = [kind_of(name) for name in self.names]
        of = [kinds[rule] for rule in self.rule[self.typed(least)].tolist()]
        return {kind: of.count(kind) for kind in dict.fromkeys(kinds)}


def best_rules(
    activations: Float[Tensor, "problem neuron"],
    by: Mapping[str, Classes],
    fit: Bool[Tensor, " problem"],
) -> Typed:
    """The rule that explains most of each neuron, and the class that moves it most."""
    share, rule = explained(activations, by, fit).max(0)
    peaks = []
    for classes in by.values():
        deviation = class_means(activations, classes, fit) - activations[fit].mean(0)
        peaks.append(deviation.abs().argmax(0))
    peak = torch.stack(peaks).gather(0, rule[None])[0]
    return Typed(list(by), rule, share, peak)


def separation(
    activations: Float[Tensor, "*layer problem neuron"], classes: Classes
) -> Float[Tensor, "*layer neuron"]:
    """Fisher's ratio: the variance of the classes' means / that within classes."""
    overall = activations.mean(-2, keepdim=True)
    between = torch.zeros_like(overall)
    within = torch.zeros_like(overall)
    for label in classes.unique().tolist():
        own = activations[..., classes == label, :]
        mean = own.mean(-2, keepdim=True)
        between += own.shape[-2] * (mean - overall).square()
        within += (own - mean).square().sum(-2, keepdim=True)
    return (between / within.clamp(min=1e-12))[..., 0, :]

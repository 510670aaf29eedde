"""Knock-outs: are neurons of a rule missed where the rule says that they are needed?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.llm.last_token import exchanged
from addlib.llm.late_neurons import LateNeurons
from addlib.llm.neuron_rules import Classes, Typed
from addlib.llm.neurons import matched
from addlib.llm.prompts import digit_tokens

Group = tuple[str, int]
"""A rule, and the class that moves its neurons most."""


def groups_of(chosen: Int[Tensor, " neuron"], found: Typed) -> dict[Group, list[int]]:
    """Typed neurons by rule and class, the largest group first.

    Args:
        chosen: numbers of the neurons that rules were sought for.
    """
    groups: dict[Group, list[int]] = {}
    for index in found.typed().nonzero()[:, 0].tolist():
        key = (found.names[found.rule[index]], int(found.peak[index]))
        groups.setdefault(key, []).append(int(chosen[index]))
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


@dataclass(frozen=True)
class KnockOuts:
    """How far the right digit's log probability falls without the neurons of each group, in nats."""

    groups: dict[Group, list[int]]  # the largest first
    inside: Bool[Tensor, "group problem"]  # problems of the group's class
    falls: Float[Tensor, "group problem"]
    random_falls: Float[Tensor, "group problem"]  # without others of the same layers and sizes
    untouched: Float[Tensor, " problem"]  # the log probability with all neurons

    def __len__(self) -> int:
        return len(self.untouched)

    def specificity(self, rows: Tensor | slice = slice(None)) -> float:
        """Fall in the groups' own classes / in other problems, over some problems."""
        own = self.falls[:, rows][self.inside[:, rows]].mean()
        return float(own / self.falls[:, rows][~self.inside[:, rows]].mean().clamp(min=1e-3))

    @property
    def by_group(self) -> Float[Tensor, "group 2"]:
        """Each group's mean fall in problems of its class, and in others."""
        both = [
            [fall[own].mean(), fall[~own].mean()]
            for fall, own in zip(self.falls, self.inside, strict=True)
        ]
        return torch.tensor(both)

    def beside_random(self, rows: Tensor | slice = slice(None)) -> float:
        """Fall in the classes by random neurons / by the classes' own, over some problems."""
        own = self.falls[:, rows][self.inside[:, rows]].mean().clamp(min=1e-3)
        return float(self.random_falls[:, rows][self.inside[:, rows]].mean() / own)


def knock_outs(
    late: LateNeurons,
    chosen: Int[Tensor, " neuron"],
    found: Typed,
    by: Mapping[str, Classes],
    fit: Bool[Tensor, " problem"],
    count: int = 200,
    most: int = 8,
) -> KnockOuts:
    """Set the neurons of each of the largest groups to their means, in problems that chose no rule.

    Args:
        chosen, found: neurons, and their rules.
        by: the classes of the rules.
        fit: the problems over which means were taken; the others are tested, the first ``count``
            that the model answers rightly, or wrongly where it answers hardly any.
        most: so many groups.
    """
    right = late.logits.argmax(-1) == late.due
    able = right if right.sum() > 20 else ~right
    asked = able.logical_and(~fit).nonzero()[:count, 0]
    run = late.runs(asked)
    tokens = digit_tokens(late.llm.tokenizer)
    due = late.due[asked, None]
    means = late.held[:, fit].mean(1, keepdim=True)  # (layer, 1, neuron)
    sizes = late.sizes

    def log_probability(without: Int[Tensor, " neuron"]) -> Float[Tensor, " problem"]:
        hooks = exchanged(late.where(without), means, late.layers)
        return run(hooks, tokens, late.layers.start).log_softmax(-1).gather(1, due)[:, 0]

    groups: dict[Group, list[int]] = {}
    for (name, label), numbers in groups_of(chosen, found).items():
        members = int((by[name] == label)[asked].sum())
        if 2 <= members < len(asked) - 1 and len(groups) < most:
            groups[name, label] = numbers
    untouched = log_probability(chosen[:0])
    falls = []
    random_falls = []
    for numbers in groups.values():
        without = chosen.new_tensor(numbers)
        falls.append(untouched - log_probability(without))
        random_falls.append(untouched - log_probability(matched(sizes, without, chosen)))
    inside = torch.stack([(by[name] == label)[asked] for name, label in groups])
    return KnockOuts(groups, inside, torch.stack(falls), torch.stack(random_falls), untouched)

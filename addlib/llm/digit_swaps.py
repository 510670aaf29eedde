"""Single digits exchanged: neurons that tell the tens or the units of a sum, taken from another sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from addlib.llm.last_token import exchanged
from addlib.llm.late_neurons import LateNeurons
from addlib.llm.neuron_rules import separation
from addlib.llm.prompts import Form, Problem, digit_tokens

if TYPE_CHECKING:
    from addlib.llm.load import LLM

PLACES = ("tens", "units")
"""The digits of a two-digit answer, in the order in which they are written."""


@dataclass(frozen=True)
class DigitSwaps:
    """What sets of neurons of another sum do to both digits of the answer."""

    moved: dict[tuple[str, str], Float[Tensor, " pair"]]
    """By set and digit: log odds of the other sum's digit against the own one, in nats."""

    changed: Bool[Tensor, " pair"]
    """Whether another digit is written after a digit's own set came from a sum with this digit."""

    overlap: float  # share of neurons that both digits' sets have

    @property
    def sets(self) -> list[str]:
        """The names of the sets."""
        return list(dict.fromkeys(name for name, _ in self.moved))

    def __len__(self) -> int:
        return len(self.moved["tens", "tens"])

    def own_digit(self, rows: Tensor | slice = slice(None)) -> float:
        """How many times as far a set moves its own digit as the other one, the smaller of both."""
        ratios = [
            self.moved[name, name][rows].mean()
            / self.moved[name, other][rows].mean().clamp(min=1e-2)
            for name, other in (PLACES, PLACES[::-1])
        ]
        return float(min(ratios))


def swap_digits(
    llm: LLM,
    form: Form,
    sums: Sequence[Problem],
    count: int,
    generator: torch.Generator,
    batch_size: int = 128,
) -> DigitSwaps:
    """Choose neurons by their separation of a digit on one half of the sums, exchange them in the other.

    Beside the digits' sets there are random neurons that are in neither, and all late ones. What is
    found lies on the CPU.

    Args:
        form: adding.
        sums: whose answers have two digits. Neurons come from the sum before.
        count: neurons in a set.
        generator: of the random ones.
    """
    late = [LateNeurons.over(llm, form, sums, place, batch_size) for place in range(2)]
    answers = torch.stack([of.due for of in late], 1)  # (sum, place)
    number = torch.arange(len(sums))
    choosing = number < len(sums) // 2
    before = number.roll(1)
    tests = (~choosing & (answers != answers[before]).all(1)).nonzero()[:, 0]
    others = (~choosing).nonzero()[:, 0]

    sets = {}
    for place, name in enumerate(PLACES):
        ratio = separation(late[place].held[:, choosing], answers[choosing, place]).flatten()
        sets[name] = late[place].where(ratio.topk(count).indices).flatten()
    overlap = float((sets["tens"] & sets["units"]).sum() / count)
    either = sets["tens"] | sets["units"]
    shuffled = torch.randperm(either.numel(), generator=generator)
    sets["random"] = torch.zeros_like(either)
    sets["random"][shuffled[~either[shuffled]][:count]] = True
    sets["all late"] = torch.ones_like(either)

    tokens = digit_tokens(llm.tokenizer)
    moved: dict[tuple[str, str], Tensor] = {}
    changed = []
    for place, (name, of) in enumerate(zip(PLACES, late, strict=True)):
        run = of.runs(tests)
        both = torch.stack([answers[before[tests], place], answers[tests, place]], 1)
        plain = of.logits[tests].gather(1, both)
        for which, mask in sets.items():
            hooks = exchanged(mask.view(-1, of.d_mlp), of.held[:, before[tests]], of.layers)
            new = run(hooks, tokens, of.layers.start).gather(1, both)
            moved[which, name] = (new - plain) @ new.new_tensor([1.0, -1.0])
        alike = [
            int((answers[:, place] == digit).nonzero()[-1]) for digit in answers[others, place]
        ]
        hooks = exchanged(sets[name].view(-1, of.d_mlp), of.held[:, alike], of.layers)
        after = of.runs(others)(hooks, tokens, of.layers.start).argmax(-1)
        changed.append(after != of.logits[others].argmax(-1))
    ordered = {(which, name): moved[which, name] for which in sets for name in PLACES}
    return DigitSwaps(ordered, torch.cat(changed), overlap)

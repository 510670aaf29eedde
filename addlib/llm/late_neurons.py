"""The MLP neurons of a language model's second half: what they do in many problems at one position.

Their numbers count on from layer to layer; 0 is the first neuron of the first of these layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.llm.grading import SharedStart
from addlib.llm.last_token import LastToken
from addlib.llm.neurons import RankedNeurons
from addlib.llm.prompts import Form, Problem, digit_tokens, encode

if TYPE_CHECKING:
    from addlib.llm.load import LLM


@dataclass(frozen=True)
class LateNeurons:
    """Activations at the last position of problems' prompts, and what the model says there."""

    llm: LLM = field(repr=False)
    form: Form
    start: SharedStart = field(repr=False)  # of the form's examples
    problems: list[Problem]
    place: int  # so many digits of the answer are in the prompts
    held: Float[Tensor, "layer problem neuron"]  # on the CPU
    logits: Float[Tensor, "problem 10"]  # of the ten digits; on the CPU

    @classmethod
    def over(
        cls,
        llm: LLM,
        form: Form,
        asked: Sequence[Problem],
        place: int = 0,
        batch_size: int = 128,
        start: SharedStart | None = None,
    ) -> LateNeurons:
        """Run problems of one size; what is kept lies on the CPU.

        Args:
            place: so many digits of the right answer are given; the next one is asked for.
            start: of the form's examples, where there is one already.
        """
        start = start or SharedStart(llm, form)
        prompts = encode(llm.tokenizer, [form.prompt(problem, place) for problem in asked])
        tokens = digit_tokens(llm.tokenizer)
        n_layers: Any = llm.bridge.cfg.n_layers
        held = []
        logits = []
        for part in prompts.split(batch_size):
            run = LastToken(start, part)
            activations, row = run.neurons(range(n_layers // 2, n_layers), tokens)
            held.append(activations)
            logits.append(row)
        return cls(llm, form, start, list(asked), place, torch.cat(held, 1), torch.cat(logits))

    @property
    def layers(self) -> range:
        """The numbers of the layers."""
        n_layers: Any = self.llm.bridge.cfg.n_layers
        return range(n_layers // 2, n_layers)

    @property
    def d_mlp(self) -> int:
        """So many neurons are in a layer."""
        return self.held.shape[2]

    @property
    def due(self) -> Int[Tensor, " problem"]:
        """The digit that is asked for."""
        return torch.tensor([int(self.form.answer(one)[self.place]) for one in self.problems])

    def of(self, chosen: Int[Tensor, " neuron"]) -> Float[Tensor, "problem neuron"]:
        """Activations of some neurons, by problem."""
        return self.held[chosen // self.d_mlp, :, chosen % self.d_mlp].T

    def most_important(self, ranked: RankedNeurons, count: int) -> Int[Tensor, " neuron"]:
        """The first of all layers' ranked neurons that are among these."""
        numbers = ranked.ranked - self.layers.start * self.d_mlp
        return numbers[numbers >= 0][:count]

    def random_beside(
        self, chosen: Int[Tensor, " neuron"], generator: torch.Generator
    ) -> Int[Tensor, " neuron"]:
        """For each neuron a random one of its layer."""
        drawn = torch.randint(self.d_mlp, chosen.shape, generator=generator)
        return chosen - chosen % self.d_mlp + drawn

    @property
    def sizes(self) -> Float[Tensor, "layer neuron"]:
        """Spread of each activation · length of what the neuron writes."""
        blocks: Any = self.llm.bridge.blocks
        written = [blocks[layer].mlp.W_out.detach().norm(dim=-1).cpu() for layer in self.layers]
        return self.held.std(1) * torch.stack(written)

    def runs(self, rows: Int[Tensor, " row"]) -> LastToken:
        """The prompts of some of the problems, ready for interventions."""
        some = [self.problems[row] for row in rows.tolist()]
        prompts = [self.form.prompt(problem, self.place) for problem in some]
        return LastToken(self.start, encode(self.llm.tokenizer, prompts))

    def where(self, chosen: Int[Tensor, " neuron"]) -> Tensor:
        """A mask of some neurons, (layer, neuron)."""
        mask = torch.zeros(self.held.shape[0] * self.d_mlp, dtype=torch.bool)
        mask[chosen] = True
        return mask.view(self.held.shape[0], self.d_mlp)

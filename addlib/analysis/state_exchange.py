"""Does the second of two layers chain the pairs' states? An exchange between sums says so.

What the first layer leaves at the position of D'_j is taken from another question, a *source*, with
the same digit there. Its pair j has the same tri-state, and nothing should change; or another one,
and then the answer should become, in every digit, that of the rule in which this state takes the
place of the question's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.analysis.activations import activations
from addlib.analysis.answers import Hook, answer, write_out
from addlib.tasks.addition import Questions
from addlib.tasks.sampling import nine_rich_questions
from addlib.tasks.subtasks import UNDETERMINED

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STATES = 3
"""Tri-states of a pair, as :func:`addlib.tasks.subtasks.tri_state` codes them."""


class Exchanged(NamedTuple):
    """How many answers were asked after, and how many came out so."""

    hits: int
    asked: int

    @property
    def share(self) -> float:
        return self.hits / self.asked


def state_of(questions: Questions, j: int) -> Int[Tensor, " batch"]:
    """Tri-state of pair j."""
    return questions.mc1[:, j].long() + UNDETERMINED * questions.ms9[:, j].long()


def another_state(
    questions: Questions, j: int, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """One of the other two tri-states of pair j, at random."""
    own = state_of(questions, j)
    return (own + torch.randint(1, STATES, own.shape, generator=generator)) % STATES


def with_state(
    questions: Questions, j: int, state: Int[Tensor, " batch"]
) -> Int[Tensor, "batch n_answer"]:
    """The answers, by column, if pair j had these states and all else were as it is.

    47 + 85 with pair 0 in state 0 → 1, 2, 2 (122): its own digit stays, the carry is gone.
    """
    task = questions.task
    sums = questions.x + questions.y
    carry = torch.zeros_like(state, dtype=torch.bool)
    digits = []
    for i in range(task.n_digits):
        digits.append((sums[:, i] + carry) % task.base)
        told = (state == 1) | ((state == UNDETERMINED) & carry)
        carry = told if i == j else sums[:, i] + carry >= task.base
    return torch.stack([*digits, carry.long()], 1)


def sources(
    rest: Questions,
    j: int,
    lower: Int[Tensor, " batch"],
    state: Int[Tensor, " batch"],
    generator: torch.Generator,
) -> Questions:
    """Questions with these digits D'_j, pair j in these states, and all else as in others.

    Where no D_j gives that state, one that gives another is taken: compare :func:`state_of`.

    Args:
        rest: what has all other digits.
    """
    task = rest.task
    upper = torch.arange(task.base, device=lower.device).expand(len(rest), -1)
    sums = upper + lower[:, None]
    states = (sums >= task.base).long() + UNDETERMINED * (sums == task.base - 1).long()
    drawn = torch.rand(upper.shape, generator=generator).to(lower.device)
    rank = drawn + (states == state[:, None])
    x = rest.x.clone()
    y = rest.y.clone()
    x[:, j] = rank.argmax(1)
    y[:, j] = lower
    return Questions(task, x, y)


def with_other_states(
    questions: Questions, j: int, generator: torch.Generator
) -> tuple[Questions, Int[Tensor, "batch n_answer"]]:
    """The questions with another D_j, and the answers that an exchange with them foretells.

    The questions are on the CPU.
    """
    other = another_state(questions, j, generator)
    source = sources(questions, j, questions.y[:, j], other, generator)
    return source, with_state(questions, j, state_of(source, j))


def left_from(model: TransformerBridge, source: Questions, position: int) -> Hook:
    """A hook that puts what layer 0 leaves at a position in other sums, all in one batch."""
    name = "blocks.0.hook_resid_post"
    left = activations(model, name, source)[:, position]

    def put(value: Tensor, hook: object) -> Tensor:
        value[:, position] = left.to(value)
        return value

    return name, put


def written_with(
    model: TransformerBridge, questions: Questions, source: Questions, position: int
) -> Int[Tensor, "batch n_answer"]:
    """What the model writes, by column, with what layer 0 leaves at a position from other sums.

    It writes freely, reading its own digits back. The digits are on the CPU.
    """
    put = left_from(model, source, position)
    return write_out(model, questions, [put], batch_size=len(questions))


def as_foretold(
    model: TransformerBridge,
    questions: Questions,
    j: int,
    source: Questions,
    foretold: Int[Tensor, "batch n_answer"],
    hold: Sequence[Hook] = (),
) -> tuple[Bool[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Exchange at D'_j: is the first digit that should change as foretold, and which one is it?

    All of it is on the CPU. Up to that digit question and foretold answer are the same, so the
    model is told the true digits.

    Args:
        source, foretold: of :func:`with_other_states`.
        hold: more hooks, which keep parts of the second layer as they were.

    Returns:
        Whether it is, and its column; -1 where nothing should change.
    """
    put = left_from(model, source, 2 * questions.task.n_digits - j)
    given = answer(model, questions, [put, *hold], len(questions)).digits
    columns = torch.arange(questions.task.n_answer)
    first = torch.where(foretold != questions.answer, columns, -1).amax(1)
    return (given == foretold).gather(1, first.clamp(min=0)[:, None])[:, 0], first


def exchange_states(
    model: TransformerBridge, questions: Questions, j: int, generator: torch.Generator
) -> tuple[Exchanged, Exchanged]:
    """Exchange what layer 0 leaves at D'_j: how many answers change, and how many obey.

    The questions are on the CPU, where their sources are drawn; the model may lie elsewhere.

    Returns:
        Of nine-rich sources in the same state, the answers that change. Of such sources in another
        state, among the questions whose answer that state should change, those that become exactly
        as foretold.
    """
    position = 2 * questions.task.n_digits - j
    written = []
    states = []
    for state in (state_of(questions, j), another_state(questions, j, generator)):
        rest = nine_rich_questions(questions.task, len(questions), generator)
        source = sources(rest, j, questions.y[:, j], state, generator)
        states.append(state_of(source, j))
        written.append(written_with(model, questions, source, position))
    changed = (written[0] != write_out(model, questions)).any(1)
    foretold = with_state(questions, j, states[1])
    asked = (foretold != questions.answer).any(1)
    obeyed = (written[1] == foretold).all(1) & asked
    return (
        Exchanged(int(changed.sum()), len(questions)),
        Exchanged(int(obeyed.sum()), int(asked.sum())),
    )


def where_states_are(
    model: TransformerBridge, questions: Questions, generator: torch.Generator
) -> Float[np.ndarray, "pairs positions"]:
    """At which position of the question an exchange makes the answers obey, for each pair.

    The sources differ from the questions in D_j alone. A share is that of :func:`exchange_states`,
    and the questions are on the CPU here, too.
    """
    task = questions.task
    positions = task.answer_positions.start + 1
    shares = np.zeros((task.n_digits, positions))
    for j in range(task.n_digits):
        source, foretold = with_other_states(questions, j, generator)
        asked = (foretold != questions.answer).any(1)
        for position in range(positions):
            written = written_with(model, questions, source, position)
            shares[j, position] = (written == foretold).all(1)[asked].double().mean()
    return shares

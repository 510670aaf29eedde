"""Pairs of prompts that differ in what a question is, and what to measure where their answers part.

A pair's two answers agree on their first k digits and differ in the next one. Both prompts contain
those k digits, so at the last position one prompt calls for one digit and the other for another;
the model gets both right. How much it prefers the one to the other there is what patching moves.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.llm.prompts import Form, Problem, digit_tokens, encode
from addlib.patching.sweep import LogitDifference

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CORRUPTIONS = ("digit", "other", "resample")
"""What is changed: one digit of the first operand, one of the second, or both operands drawn anew.
"""


@dataclass(frozen=True)
class Probability:
    """The probability of a token at the last position, prompt by prompt, from 0 to 1."""

    token: Int[Tensor, " batch"]

    def __call__(self, logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, " batch"]:
        return logits.softmax(-1).gather(-1, self.token.to(logits.device)[:, None])[:, 0]


@dataclass(frozen=True)
class Rank:
    """How many tokens the last position prefers to a token, prompt by prompt; 0 is the best. It has
    no gradient.
    """

    token: Int[Tensor, " batch"]

    def __call__(self, logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, " batch"]:
        own = logits.gather(-1, self.token.to(logits.device)[:, None])
        return (logits > own).sum(-1).to(logits.dtype)


@dataclass(frozen=True)
class PromptPairs:
    """Prompts in pairs, and the digits where their answers part.

    ``clean`` and ``corrupted`` are token ids (batch, position); ``right`` and ``wrong`` the tokens
    that follow them.
    """

    form: Form
    corruption: str
    k: int
    problems: list[Problem]
    corrupted_problems: list[Problem]
    clean: Int[Tensor, "batch position"]
    corrupted: Int[Tensor, "batch position"]
    right: Int[Tensor, " batch"]
    wrong: Int[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def difference(self) -> LogitDifference:
        """Right digit against wrong one: positive for clean prompts, negative for corrupted ones."""
        return LogitDifference(self.right, self.wrong)

    @property
    def metrics(self) -> dict[str, LogitDifference | Probability | Rank]:
        """The three metrics, for one sweep."""
        return {
            "difference": self.difference,
            "probability": Probability(self.right),
            "rank": Rank(self.right),
        }

    @property
    def shared(self) -> int:
        """So many first tokens are the same in all prompts."""
        everything = torch.cat([self.clean, self.corrupted])
        return int((everything == everything[0]).all(0).long().cumprod(0).sum())

    def first(self, count: int) -> PromptPairs:
        """The first pairs."""
        cut = {
            name: getattr(self, name)[:count]
            for name in ("problems", "corrupted_problems", "clean", "corrupted")
        }
        return PromptPairs(
            self.form,
            self.corruption,
            self.k,
            **cut,
            right=self.right[:count],
            wrong=self.wrong[:count],
        )


def fits(form: Form, one: Problem, other: Problem, k: int, corruption: str) -> bool:
    """Whether two problems make a pair.

    Raises:
        ValueError: an unknown corruption.
    """
    if corruption not in CORRUPTIONS:
        raise ValueError(f"corruption = {corruption!r}: must be one of {', '.join(CORRUPTIONS)}")
    answer, instead = form.answer(one), form.answer(other)
    if (
        len(answer) != len(instead)
        or answer[:k] != instead[:k]
        or answer[k : k + 1] == instead[k : k + 1]
    ):
        return False
    texts = [(str(operand), str(changed)) for operand, changed in zip(one, other, strict=True)]
    if any(len(text) != len(changed) for text, changed in texts):
        return False
    a, b = (sum(x != y for x, y in zip(*two, strict=True)) for two in texts)
    return {"digit": (a, b) == (1, 0), "other": (a, b) == (0, 1), "resample": a > 0 and b > 0}[
        corruption
    ]


PARTNERS = 16
"""So many possible partners of a problem are looked at, at most."""


def candidates(
    forms: Sequence[Form],
    solved: Sequence[Problem],
    k: int,
    corruption: str,
    generator: random.Random,
) -> dict[Problem, list[Problem]]:
    """For each problem others that make a pair with it in every form, among those that the model
    gets right.
    """
    groups: dict[tuple[int | str, ...], list[Problem]] = {}
    for a, b in dict.fromkeys(solved):
        answer = forms[0].answer((a, b))
        kept = {"digit": f"*{b}", "other": f"{a}*"}.get(corruption, "")  # what a pair has in common
        groups.setdefault((len(answer), answer[:k], kept), []).append((a, b))
    found = {}
    for group in groups.values():
        if len({forms[0].answer(problem)[k : k + 1] for problem in group}) == 1:
            continue  # the answers don't part at this digit
        generator.shuffle(group)
        for place, one in enumerate(group):
            others = group[place + 1 :] + group[:place]  # each problem begins elsewhere
            fitting = (
                other
                for other in others
                if all(fits(form, one, other, k, corruption) for form in forms)
            )
            found[one] = list(islice(fitting, PARTNERS))
    return {one: others for one, others in found.items() if others}


def prompt_pairs(
    form: Form,
    tokenizer: PreTrainedTokenizerBase,
    solved: Sequence[Problem],
    k: int,
    corruption: str = "digit",
    count: int | None = 64,
    seed: int = 0,
    also: Sequence[Form] = (),
) -> PromptPairs:
    """Pairs of problems that the model gets right, drawn at random.

    A problem is clean at most once, and no pair comes a second time the other way round. As long as
    there are enough, no problem is in two pairs, so that pairs are independent; when these run out,
    corrupted problems come again.

    Args:
        solved: of one size, answered correctly (:attr:`addlib.llm.grading.Grades.solved`).
        k: so many first digits of both answers agree and are in the prompts; 0 or more.
        count: how many; None: as many as can be had.
        also: other operations, for controls: the same problems must make a pair of the same kind
            there, too. Give problems that the model gets right in all of them, and make the
            controls with :func:`of_problems`.

    Raises:
        ValueError: fewer than ``count`` pairs, problems of several sizes, an unknown corruption, a
            negative k.
    """
    sizes = {tuple(len(str(operand)) for operand in problem) for problem in solved}
    if k < 0 or len(sizes) > 1:
        raise ValueError(
            f"k = {k}, sizes {sorted(sizes)}: k must be 0 or more, and prompts of one length, so "
            f"one size"
        )
    generator = random.Random(f"{seed} {k} {corruption}")
    partners = candidates((form, *also), solved, k, corruption, generator)
    order = sorted(partners)
    generator.shuffle(order)
    chosen: dict[Problem, Problem] = {}
    used: set[Problem] = set()
    for fresh in (True, False):  # problems that are in no pair yet, as long as there are any
        for one in order:
            if one in chosen or (fresh and one in used):
                continue
            others = [
                x for x in partners[one] if chosen.get(x) != one and not (fresh and x in used)
            ]
            if others:
                chosen[one] = generator.choice(others)
                used |= {one, chosen[one]}
    pairs = list(chosen.items())
    if count is not None and len(pairs) < count:
        raise ValueError(
            f"only {len(pairs)} pairs with k = {k} and corruption {corruption!r} among "
            f"{len(solved)} problems that the "
            f"model gets right, {count} wanted: ask it more problems, or others, or take fewer "
            f"pairs"
        )
    pairs = pairs[: count or len(pairs)]
    if not pairs:
        raise ValueError(
            f"no pair with k = {k} and corruption {corruption!r} among {len(solved)} problems"
        )
    return of_problems(
        form, tokenizer, [one for one, _ in pairs], [other for _, other in pairs], k, corruption
    )


def of_problems(
    form: Form,
    tokenizer: PreTrainedTokenizerBase,
    clean: Sequence[Problem],
    corrupted: Sequence[Problem],
    k: int,
    corruption: str,
) -> PromptPairs:
    """Given problems as pairs.

    Raises:
        ValueError: problems that make no pair of this kind, or prompts of different lengths.
    """
    for one, other in zip(clean, corrupted, strict=True):
        if not fits(form, one, other, k, corruption):
            raise ValueError(
                f"{one} and {other} are no pair with k = {k} and corruption {corruption!r}"
            )
    ids = digit_tokens(tokenizer)
    tokens = encode(tokenizer, [form.prompt(problem, k) for problem in (*clean, *corrupted)])
    right, wrong = (
        ids[[int(form.answer(problem)[k]) for problem in side]] for side in (clean, corrupted)
    )
    half = len(clean)
    return PromptPairs(
        form,
        corruption,
        k,
        list(clean),
        list(corrupted),
        tokens[:half],
        tokens[half:],
        right,
        wrong,
    )

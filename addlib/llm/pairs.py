"""Pairs of prompts that differ in what a question is, and what to measure where their answers part.

A pair's two answers agree on their first k digits and differ in the next one. Both prompts contain
those k digits, so at the last position one prompt calls for one digit and the other for another;
the model gets both right. How much it prefers the one to the other there is what patching moves.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.llm.prompts import Form, Problem, digit_tokens, encode
from addlib.patching.metrics import LogitDifference, Probability, Rank

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase

    from addlib.llm.grading import SharedStart


CORRUPTIONS = ("digit", "other", "resample")
"""What is changed: a digit of the first operand, one of the second, or both operands drawn anew."""


MOST_PARTNERS = 16
"""So many possible partners of a problem are looked at, at most."""


@dataclass(frozen=True)
class PromptPairs:
    """Prompts in pairs, and the digits where their answers part.

    ``clean`` and ``corrupted`` are token ids; ``right`` and ``wrong`` the tokens that follow them.
    """

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

    def where(self, chosen: Bool[Tensor, " batch"]) -> PromptPairs:
        """The pairs that a mask chooses."""
        rows = chosen.nonzero()[:, 0].tolist()
        picked: dict[str, Any] = {
            name: [values[row] for row in rows] if isinstance(values, list) else values[rows]
            for name, values in vars(self).items()
        }
        return replace(self, **picked)

    def first(self, count: int) -> PromptPairs:
        """The first pairs, at most ``count``."""
        return replace(self, **{name: values[:count] for name, values in vars(self).items()})


def make_a_pair(form: Form, clean: Problem, corrupted: Problem, k: int, corruption: str) -> bool:
    """Whether answers agree on k digits and part then, and operands differ as ``corruption`` says."""
    answer = form.answer(clean)
    wrong_answer = form.answer(corrupted)
    if len(answer) != len(wrong_answer) or answer[:k] != wrong_answer[:k]:
        return False
    if answer[k : k + 1] == wrong_answer[k : k + 1]:
        return False
    changes = []
    for operand, changed in zip(map(str, clean), map(str, corrupted), strict=True):
        if len(operand) != len(changed):
            return False
        changes.append(sum(x != y for x, y in zip(operand, changed, strict=True)))
    if corruption == "resample":
        return min(changes) > 0
    return changes == ([1, 0] if corruption == "digit" else [0, 1])


def _partners(
    forms: Sequence[Form],
    solved: Sequence[Problem],
    k: int,
    corruption: str,
    generator: random.Random,
) -> dict[Problem, list[Problem]]:
    """For each problem, those of the solved ones that make a pair with it in every form."""
    groups = defaultdict(list)
    for a, b in dict.fromkeys(solved):
        answer = forms[0].answer((a, b))
        unchanged = {"digit": b, "other": a, "resample": None}[corruption]
        groups[len(answer), answer[:k], unchanged].append((a, b))
    partners = {}
    for group in groups.values():
        if len({forms[0].answer(problem)[k : k + 1] for problem in group}) == 1:
            continue  # the answers don't part at this digit
        generator.shuffle(group)
        for place, problem in enumerate(group):
            fitting = []
            for candidate in group[place + 1 :] + group[:place]:  # each problem begins elsewhere
                if all(make_a_pair(form, problem, candidate, k, corruption) for form in forms):
                    fitting.append(candidate)
                if len(fitting) == MOST_PARTNERS:
                    break
            if fitting:
                partners[problem] = fitting
    return partners


def prompt_pairs(
    form: Form,
    tokenizer: PreTrainedTokenizerBase,
    solved: Sequence[Problem],
    k: int,
    corruption: str = "digit",
    seed: int = 0,
    also: Sequence[Form] = (),
) -> PromptPairs:
    """All pairs of problems that the model gets right, in random order.

    A problem is clean at most once, and no pair comes a second time the other way round. As long as
    there are enough, no problem is in two pairs, so that pairs are independent; when these run out,
    corrupted problems come again.

    Args:
        solved: of one size, answered correctly (:attr:`addlib.llm.grading.Grades.solved`).
        k: so many first digits of both answers agree and are in the prompts; 0 or more.
        also: other operations, for controls: the same problems must make a pair of the same kind
            there, too. Give problems that the model gets right in all of them, and make the
            controls with :func:`pair_up`.

    Raises:
        ValueError: no pair, problems of several sizes, an unknown corruption, a negative k.
    """
    sizes = {(len(str(a)), len(str(b))) for a, b in solved}
    if k < 0 or len(sizes) > 1 or corruption not in CORRUPTIONS:
        raise ValueError(
            f"k = {k}, sizes {sorted(sizes)}, corruption = {corruption!r}: k must be 0 or more, "
            f"prompts of one length, so one size, and corruption one of {', '.join(CORRUPTIONS)}"
        )
    generator = random.Random(f"{seed} {k} {corruption}")
    partners = _partners((form, *also), solved, k, corruption, generator)
    order = sorted(partners)
    generator.shuffle(order)
    partner_of: dict[Problem, Problem] = {}
    used: set[Problem] = set()
    for only_unused in (True, False):  # problems that are in no pair yet, while there are any
        for problem in order:
            if problem in partner_of or (only_unused and problem in used):
                continue
            left = [
                partner
                for partner in partners[problem]
                if partner_of.get(partner) != problem and not (only_unused and partner in used)
            ]
            if left:
                partner_of[problem] = generator.choice(left)
                used |= {problem, partner_of[problem]}
    if not partner_of:
        raise ValueError(
            f"no pair with k = {k} and corruption {corruption!r} among {len(solved)} problems that "
            f"the model gets right: ask it more problems, or others"
        )
    return pair_up(form, tokenizer, list(partner_of), list(partner_of.values()), k, corruption)


def pair_up(
    form: Form,
    tokenizer: PreTrainedTokenizerBase,
    clean: Sequence[Problem],
    corrupted: Sequence[Problem],
    k: int,
    corruption: str,
) -> PromptPairs:
    """Prompts of problems that make pairs, one by one.

    Raises:
        ValueError: problems that make no pair of this kind, or prompts of different lengths.
    """
    for problem, partner in zip(clean, corrupted, strict=True):
        if not make_a_pair(form, problem, partner, k, corruption):
            raise ValueError(
                f"{problem} and {partner} are no pair with k = {k} and corruption {corruption!r}"
            )
    digits = digit_tokens(tokenizer)
    tokens = encode(tokenizer, [form.prompt(problem, k) for problem in (*clean, *corrupted)])
    return PromptPairs(
        problems=list(clean),
        corrupted_problems=list(corrupted),
        clean=tokens[: len(clean)],
        corrupted=tokens[len(clean) :],
        right=digits[[int(form.answer(problem)[k]) for problem in clean]],
        wrong=digits[[int(form.answer(problem)[k]) for problem in corrupted]],
    )


def estimated_effects(
    estimate: Callable[..., dict[str, Any]],
    model: TransformerBridge,
    kinds: Sequence[str],
    pairs: PromptPairs,
    batch_size: int = 8,
) -> dict[str, Float[Tensor, "*cell pair"]]:
    """Effects of all cells by kind, as a gradient estimates them, of a few pairs at a time, on the CPU.

    A gradient keeps what every layer computed for every token: more pairs at once need memory, and
    save hardly any time.

    Args:
        estimate: :func:`~addlib.patching.gradient.attribution_patch` or
            :func:`~addlib.patching.relevance.relevance_patch`.
    """
    parts = []
    for rows in torch.arange(len(pairs)).split(batch_size):
        some = pairs.where(torch.isin(torch.arange(len(pairs)), rows))
        parts.append(estimate(model, kinds, some.corrupted, some.clean, some.difference))
    return {kind: torch.cat([part[kind].effect() for part in parts], -1) for kind in kinds}


def restored_by_streams(
    start: SharedStart, pairs: PromptPairs, layers: Sequence[int], positions: slice
) -> Float[Tensor, "pair layer"]:
    """The share of the clean answer that streams of several positions bring back together, on the CPU.

    Args:
        start: of the examples that the prompts begin with.
        layers: before which the clean run's residual stream is put in, one layer at a time.
        positions: of the question, whose first one is 0.
    """
    names = [f"blocks.{layer}.hook_resid_pre" for layer in layers]
    clean: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor, hook: object) -> None:
        clean[name] = value[:, positions].clone()

    def put(name: str, value: Tensor, hook: object) -> Tensor:
        value = value.clone()
        value[:, positions] = clean[name]
        return value

    high = start.at_end(pairs.clean, hooks=[(name, partial(keep, name)) for name in names])
    runs = [start.at_end(pairs.corrupted, hooks=[(name, partial(put, name))]) for name in names]
    ends = [pairs.difference(of) for of in (start.at_end(pairs.corrupted), high, *runs)]
    return ((torch.stack(ends[2:], 1) - ends[0][:, None]) / (ends[1] - ends[0])[:, None]).cpu()

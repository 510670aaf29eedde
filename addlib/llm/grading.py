"""How well a language model calculates: digit by digit with help, and whole answers on its own.

Teacher-forced means that the model sees the right digits before the one it is asked for. An answer
all of whose digits are right that way, with something other than a digit after it, is the one that
the model writes on its own when it takes the likeliest token each time: up to a first mistake both
see the same tokens. So one forward grades both.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.device import in_batches, memory_for
from addlib.llm.prompts import Form, Problem, digit_tokens, encode
from addlib.stats import wilson_interval

if TYPE_CHECKING:
    from addlib.llm.load import LLM


Hook = tuple[str, Callable[..., Tensor | None]]
"""The name of a hook point, and what TransformerLens calls there."""


class SharedStart:
    """Forwards of prompts that begin with the same examples, which are run once for all.

    Args:
        llm: the model.
        form: whose examples they are; there may be none.
    """

    @torch.no_grad()
    def __init__(self, llm: LLM, form: Form) -> None:
        self.bridge = llm.bridge
        model: Any = llm.bridge.original_model
        self.model = model
        self.device = llm.device
        self.tokens = torch.zeros(0, dtype=torch.int64)
        self.past = None
        if form.shots:
            self.tokens = encode(llm.tokenizer, [form.prefix])[0]
            start = self.tokens[None].to(self.device)
            with memory_for("a single question"):
                self.past = self.model.base_model(start, use_cache=True).past_key_values
        self.length = len(self.tokens)

    def __call__(
        self,
        prompts: Int[Tensor, "batch position"],
        last: int = 1,
        hooks: Sequence[Hook] = (),
        tokens: Int[Tensor, " choice"] | None = None,
    ) -> Float[Tensor, "batch last choice"]:
        """Logits at the last ``last`` positions of whole prompts.

        Args:
            hooks: act on what follows the examples, whose first position is 0 there.
            tokens: whose logits are wanted, which saves most of the unembedding; None: all.

        Raises:
            ValueError: prompts that do not begin with the examples.
        """
        if not (prompts[:, : self.length] == self.tokens).all():
            raise ValueError(
                "the examples become other tokens when a question follows: end them with a newline"
            )
        past = copy.deepcopy(self.past)
        if past is not None:
            past.batch_repeat_interleave(len(prompts))
        rest = prompts[:, self.length :].to(self.device)
        given: dict[str, Any] = {"past_key_values": past, "use_cache": True}
        with self.bridge.hooks(fwd_hooks=list(hooks)) if hooks else nullcontext():
            if tokens is None:
                return self.model(rest, **given, logits_to_keep=last).logits
            stream = self.model.base_model(rest, **given).last_hidden_state
        return self.unembedded(stream[:, -last:], tokens)

    def unembedded(
        self, normed: Float[Tensor, "*run d_model"], tokens: Int[Tensor, " choice"]
    ) -> Float[Tensor, "*run choice"]:
        """Logits of a few tokens, from the stream behind the last norm."""
        at = tokens.to(normed.device)
        return normed @ self.bridge.unembed.W_U[:, at] + self.bridge.unembed.b_U[at]

    @torch.no_grad()
    def at_end(
        self,
        prompts: Int[Tensor, "batch position"],
        batch_size: int = 64,
        hooks: Sequence[Hook] = (),
        tokens: Int[Tensor, " choice"] | None = None,
    ) -> Float[Tensor, "batch choice"]:
        """Logits at the last position of whole prompts, on the CPU.

        Args:
            batch_size: so many prompts pass through the model together; all of them where there
                are hooks, which may know what belongs to which prompt.
            hooks, tokens: as of a call.

        Raises:
            ValueError: as a call.
        """
        parts = [prompts] if hooks else prompts.split(batch_size)
        given: dict[str, Any] = {"hooks": hooks, "tokens": tokens}
        return torch.cat([self(part, **given)[:, -1].cpu() for part in parts])

    @torch.no_grad()
    def activations(
        self, prompts: Int[Tensor, "batch position"], names: Sequence[str]
    ) -> Float[Tensor, "hook batch d"]:
        """Activations at the last position of whole prompts, on the CPU.

        Args:
            names: of hook points whose activations have one size.

        Raises:
            ValueError: as a call.
        """
        found: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor, hook: object) -> None:
            found[name] = value[:, -1].cpu()

        hooks = [(name, partial(keep, name)) for name in names]
        self(prompts, hooks=hooks, tokens=torch.arange(1))
        return torch.stack([found[name] for name in names])


@dataclass(frozen=True)
class Grades:
    """Problems and what a model made of them; digits are counted from the first."""

    problems: list[Problem]
    length: Int[Tensor, " batch"]  # digits of the right answer
    digit_right: Bool[Tensor, "batch digit"]  # teacher-forced; False beyond an answer's end
    right: Bool[Tensor, " batch"]  # the whole answer, written by the model on its own

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def solved(self) -> list[Problem]:
        """The problems that were answered rightly."""
        return [self.problems[index] for index in self.right.nonzero()[:, 0].tolist()]

    def some(self, rows: Int[Tensor, " chosen"]) -> Grades:
        """The grades of the problems with these numbers, which may come several times."""
        problems = [self.problems[row] for row in rows.tolist()]
        return Grades(problems, self.length[rows], self.digit_right[rows], self.right[rows])

    @classmethod
    def joined(cls, parts: Sequence[Grades]) -> Grades:
        """The grades of several sizes as one."""
        most = max(part.digit_right.shape[1] for part in parts)
        missing = [most - part.digit_right.shape[1] for part in parts]
        digits = zip(parts, missing, strict=True)
        return cls(
            problems=[problem for part in parts for problem in part.problems],
            length=torch.cat([part.length for part in parts]),
            digit_right=torch.cat([F.pad(part.digit_right, (0, n)) for part, n in digits]),
            right=torch.cat([part.right for part in parts]),
        )

    def by_place(self) -> dict[str, dict[str, float]]:
        """The share of right digits, teacher-forced, at the first, middle and last places."""
        place = torch.arange(self.digit_right.shape[1])
        last = self.length[:, None] - 1
        return {
            "first digit": share(self.digit_right[:, 0]),
            "middle digits": share(self.digit_right[(place > 0) & (place < last)]),
            "last digit": share(self.digit_right[place == last]),
        }

    def lead_of_ends(self, rows: Int[Tensor, " chosen"] | None = None) -> float:
        """How much more often first or last digits are right than middle ones, the lower lead.

        Args:
            rows: numbers of the problems, which may come several times; None: all.
        """
        grades = self if rows is None else self.some(rows)
        first, middle, last = (of["share"] for of in grades.by_place().values())
        return min(first, last) - middle


def share(hits: Bool[Tensor, " sample"]) -> dict[str, float]:
    """A proportion with its 95 % Wilson interval; NaN of nothing."""
    total = len(hits)
    if not total:
        return {"n": 0, "share": math.nan, "low": math.nan, "high": math.nan}
    count = int(hits.sum())
    low, high = wilson_interval(count, total)
    return {"n": total, "share": count / total, "low": low, "high": high}


@torch.no_grad()
def grade(llm: LLM, form: Form, asked: Sequence[Problem], batch_size: int = 64) -> Grades:
    """A model's answers to problems of any sizes, in the order asked.

    The result's tensors are on the CPU.

    Args:
        batch_size: so many problems pass through the model together, or what there is memory for.

    Raises:
        ValueError: no problems, a batch size below 1, or a digit that is not one token.
    """
    if not asked or batch_size < 1:
        raise ValueError(
            f"{len(asked)} problems with batch_size = {batch_size}: both must be at least 1"
        )
    digits = digit_tokens(llm.tokenizer)
    start = SharedStart(llm, form)
    length = torch.tensor([len(form.answer(problem)) for problem in asked])
    digit_right = torch.zeros(len(asked), int(length.max()), dtype=torch.bool)
    right = torch.zeros(len(asked), dtype=torch.bool)
    of_one_length = defaultdict(list)
    for index, (a, b) in enumerate(asked):
        of_one_length[len(str(a)), len(str(b)), int(length[index])].append(index)

    def grade_batch(indices: list[int], rows: slice) -> None:
        batch = torch.tensor(indices[rows])
        count = int(length[batch[0]])
        tokens = encode(llm.tokenizer, [form.prompt(asked[index], count) for index in batch])
        chosen = start(tokens, count + 1).argmax(-1).cpu()
        is_due = chosen[:, :-1] == tokens[:, -count:]
        stops = ~torch.isin(chosen[:, -1], digits)
        digit_right[batch, :count] = is_due
        right[batch] = is_due.all(1) & stops

    for indices in of_one_length.values():
        in_batches(partial(grade_batch, indices), len(indices), batch_size)
    return Grades(list(asked), length, digit_right, right)


def able(llm: LLM, grades: Grades) -> list[Problem]:
    """The problems answered rightly; all of them where the weights are random and solve none."""
    return grades.problems if llm.is_random else grades.solved


def check_able(llm: LLM, grades: Grades, least: float) -> None:
    """Refuse a model that can't do a task; one of random weights, which shows nothing, is let pass.

    Raises:
        ValueError: with what was found: less than this share of the problems is right.
    """
    found = share(grades.right)
    if found["share"] < least and not llm.is_random:
        a, b = grades.problems[0]
        raise ValueError(
            f"{llm.source.name} gets {grades.right.sum()} of {len(grades)} problems such as those "
            f"of {a} and {b} right ({found['share']:.0%}), fewer than {least:.0%}: of wrong answers "
            f"patching tells how the mistake is made. Use a model that can do them, or smaller numbers"
        )


@torch.no_grad()
def digit_ranks(llm: LLM, form: Form, problem: Problem, count: int = 5) -> pd.DataFrame:
    """How likely each digit of the right answer is, the right ones before it given.

    The columns are ``question``, ``digit`` (of the answer, from 1), ``due``, ``rank`` (1: the
    likeliest token of all), ``probability`` and ``likeliest``, the ``count`` likeliest tokens with
    their probabilities.
    """
    answer = form.answer(problem)
    tokens = encode(llm.tokenizer, [form.prompt(problem, len(answer) - 1)])
    with memory_for("a single prompt"):
        logits = SharedStart(llm, form)(tokens, len(answer))[0].cpu()
    probability = logits.float().softmax(-1)  # (digit, token)
    due = digit_tokens(llm.tokenizer)[[int(digit) for digit in answer]]
    own = probability.gather(1, due[:, None])
    rank = 1 + (probability > own).sum(1)
    top = probability.topk(count)
    rows = []
    for place, digit in enumerate(answer):
        likeliest = zip(top.indices[place].tolist(), top.values[place].tolist(), strict=True)
        shown = [f"{llm.tokenizer.decode([token])!r} {part:.0%}" for token, part in likeliest]
        rows.append(
            {
                "question": form.question(problem),
                "digit": place + 1,
                "due": digit,
                "rank": int(rank[place]),
                "probability": float(own[place]),
                "likeliest": ", ".join(shown),
            }
        )
    return pd.DataFrame(rows)

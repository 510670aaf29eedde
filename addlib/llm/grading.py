"""How well a language model calculates: digit by digit on the right answer's tokens, and writing on
its own.

Teacher-forced means that the model sees the right digits before the one it is asked for. An answer
all of whose digits are right that way, with something other than a digit after it, is the one that
the model writes on its own when it takes the likeliest token each time: up to a first mistake both
see the same tokens. So one forward grades both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from addlib.llm.prompts import Form, Problem, digit_tokens, encode, problems
from addlib.stats import wilson_interval

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from addlib.llm.load import LLM


class SharedStart:
    """Forwards of prompts that begin with the same tokens, which are run once.

    Args:
        bridge: in evaluation mode.
        start: the shared tokens; may be none.
    """

    @torch.no_grad()
    def __init__(self, bridge: TransformerBridge, start: Int[Tensor, " position"]) -> None:
        self.model = bridge.original_model
        self.device = next(bridge.parameters()).device
        self.past = None
        if len(start):
            self.past = self.model(
                start[None].to(self.device), use_cache=True, logits_to_keep=1
            ).past_key_values

    @torch.no_grad()
    def __call__(self, rest: Int[Tensor, "batch position"], last: int = 1) -> tuple[Tensor, Any]:
        """Logits at the last ``last`` positions, (batch, last, d_vocab), and the cache of all of
        them.
        """
        past = copy.deepcopy(self.past)
        if past is not None:
            past.batch_repeat_interleave(len(rest))
        out = self.model(
            rest.to(self.device), past_key_values=past, use_cache=True, logits_to_keep=last
        )
        return out.logits, out.past_key_values

    @torch.no_grad()
    def write(self, rest: Int[Tensor, "batch position"], count: int) -> Int[Tensor, "batch count"]:
        """The ``count`` tokens that follow, each the likeliest."""
        logits, past = self(rest)
        written = [logits[:, -1].argmax(-1)]
        while len(written) < count:
            out = self.model(
                written[-1][:, None], past_key_values=past, use_cache=True, logits_to_keep=1
            )
            written.append(out.logits[:, -1].argmax(-1))
        return torch.stack(written, 1).cpu()


@dataclass(frozen=True)
class Grades:
    """Problems and what a model made of them; digits are counted from the first, columns beyond an
    answer are False.
    """

    form: Form
    problems: list[Problem]
    length: Int[Tensor, " batch"]  # digits of the right answer
    right: Bool[Tensor, "batch digit"]
    probability: Float[Tensor, "batch digit"]  # of the right digit
    stops: Bool[Tensor, " batch"]  # no further digit after the right answer

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def whole(self) -> Bool[Tensor, " batch"]:
        """All digits right, teacher-forced."""
        return self.right.sum(1) == self.length

    @property
    def free(self) -> Bool[Tensor, " batch"]:
        """The answer that the model writes on its own is right."""
        return self.whole & self.stops

    @property
    def solved(self) -> list[Problem]:
        """The problems of :attr:`free`."""
        return [
            problem
            for problem, right in zip(self.problems, self.free.tolist(), strict=True)
            if right
        ]

    def by_place(self, from_last: bool = False) -> pd.DataFrame:
        """The share of right digits by place, with its Wilson interval; place 0 is the first digit,
        or the last.
        """
        rows = []
        for place in range(self.right.shape[1]):
            there = self.length > place
            column = self.length - 1 - place if from_last else torch.full_like(self.length, place)
            hits = self.right.gather(1, column.clamp(min=0)[:, None])[:, 0][there]
            if len(hits):
                rows.append({"place": place, **share(hits)})
        return pd.DataFrame(rows)


def share(hits: Bool[Tensor, " sample"]) -> dict[str, float]:
    """A proportion with its 95 % Wilson interval."""
    count, total = int(hits.sum()), len(hits)
    low, high = wilson_interval(count, total)
    return {"n": total, "share": count / total, "low": low, "high": high}


def grade(
    llm: LLM, form: Form, asked: Sequence[Problem], rows: int = 64, progress: bool = True
) -> Grades:
    """A model's answers to problems of any sizes, ``rows`` at a time, in the order asked.

    Raises:
        ValueError: no problems, rows below 1, or a digit that is not one token.
    """
    if not asked or rows < 1:
        raise ValueError(f"{len(asked)} problems with rows = {rows}: both must be at least 1")
    ids = digit_tokens(llm.tokenizer)
    answers = [form.answer(problem) for problem in asked]
    length = torch.tensor([len(answer) for answer in answers])
    right = torch.zeros(len(asked), int(length.max()), dtype=torch.bool)
    probability, stops = torch.zeros(right.shape), torch.zeros(len(asked), dtype=torch.bool)
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, (problem, answer) in enumerate(zip(asked, answers, strict=True)):
        groups.setdefault((*(len(str(operand)) for operand in problem), len(answer)), []).append(
            index
        )
    start = (
        encode(llm.tokenizer, [form.prefix])[0] if form.shots else torch.zeros(0, dtype=torch.int64)
    )
    shared = SharedStart(llm.bridge, start)
    with tqdm(
        total=len(asked),
        desc="answers",
        unit="problem",
        delay=3.0,
        mininterval=1.0,
        disable=not progress,
    ) as bar:
        for members in groups.values():
            for part in torch.tensor(members).split(rows):
                here = [asked[index] for index in part]
                count = int(length[part[0]])
                tokens = encode(llm.tokenizer, [form.prompt(problem, count) for problem in here])
                if not torch.equal(tokens[:, : len(start)], start.expand(len(part), -1)):
                    raise ValueError(
                        "the examples become other tokens when a question follows: end them with a "
                        "newline"
                    )
                logits = shared(tokens[:, len(start) :], count + 1)[0].cpu()
                chosen = logits.argmax(-1)
                due = tokens[:, -count:]
                right[part, :count] = chosen[:, :-1] == due
                odds = logits[:, :-1].float().log_softmax(-1).gather(-1, due[:, :, None])[:, :, 0]
                probability[part, :count] = odds.exp()
                stops[part] = ~torch.isin(chosen[:, -1], ids)
                bar.update(len(part))
    return Grades(form, list(asked), length, right, probability, stops)


def written(
    llm: LLM, form: Form, asked: Sequence[Problem], tokens: int = 12, rows: int = 64
) -> list[str]:
    """What the model writes on its own after each question, at most so many tokens, up to the first
    line's end.
    """
    texts = [""] * len(asked)
    start = (
        encode(llm.tokenizer, [form.prefix])[0] if form.shots else torch.zeros(0, dtype=torch.int64)
    )
    shared = SharedStart(llm.bridge, start)
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, problem in enumerate(asked):
        groups.setdefault(tuple(len(str(operand)) for operand in problem), []).append(index)
    for members in groups.values():
        for part in torch.tensor(members).split(rows):
            prompts = encode(llm.tokenizer, [form.prompt(asked[index]) for index in part])
            for index, row in zip(
                part, shared.write(prompts[:, len(start) :], tokens), strict=True
            ):
                texts[index] = llm.tokenizer.decode(row).partition("\n")[0]
    return texts


def accuracy_by_size(
    llm: LLM,
    form: Form,
    sizes: Iterable[tuple[int, int]],
    count: int,
    seed: int = 0,
    rows: int = 64,
    progress: bool = True,
) -> tuple[pd.DataFrame, dict[tuple[int, int], Grades]]:
    """Accuracy for each size of operands: a table, and the grades that it sums up.

    The table's columns: ``a_digits``, ``b_digits``, ``n``; ``digits`` (share of right digits,
    teacher-forced), ``whole`` (all of them) and ``free`` (written on its own), the last two with
    ``_low`` and ``_high``.
    """
    grades = {}
    for size in sizes:
        asked = problems(size, count, seed, without=form.shots)
        grades[size] = grade(llm, form, asked, rows, progress)
    table = []
    for (a_digits, b_digits), grade_ in grades.items():
        row = {"a_digits": a_digits, "b_digits": b_digits, "n": len(grade_)}
        row["digits"] = float(grade_.right.sum() / grade_.length.sum())
        for name in ("whole", "free"):
            of = share(getattr(grade_, name))
            row |= {name: of["share"], f"{name}_low": of["low"], f"{name}_high": of["high"]}
        table.append(row)
    return pd.DataFrame(table), grades


@torch.no_grad()
def top_tokens(llm: LLM, prompt: str, count: int = 10) -> pd.DataFrame:
    """The likeliest next tokens after each token of a prompt: columns ``position``, ``after``,
    ``rank``, ``token``, ``probability``.
    """
    tokens = torch.tensor([llm.tokenizer(prompt, add_special_tokens=False).input_ids])
    found = llm.bridge(tokens.to(llm.device))[0].float().softmax(-1).topk(count)
    rows = [
        {
            "position": position,
            "after": llm.tokenizer.decode([int(tokens[0, position])]),
            "rank": rank,
            "token": llm.tokenizer.decode([int(found.indices[position, rank])]),
            "probability": float(found.values[position, rank]),
        }
        for position in range(tokens.shape[1])
        for rank in range(count)
    ]
    return pd.DataFrame(rows)

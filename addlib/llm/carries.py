"""How a language model carries: cascades and twins put to it, and carries taken from other sums.

In a sum of n digits the first digit of the answer is asked for at ``=``, before any other. Whether
a carry comes in is decided by the next pair, or, where that sums to 9, by the one below it, and so
on. A *cascade* has a carry made ``down`` pairs below the top one, with sums of 9 between; its *twin*
differs in one digit there, so that none is made. A model that sees that pair gives the two
different first digits.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.llm.grading import SharedStart
from addlib.llm.prompts import ADD, Form, Problem, digit_tokens, encode, problems
from addlib.patching.metrics import FewTokens
from addlib.patching.sweep import Patcher
from addlib.stats import d_prime
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import carry_twins

if TYPE_CHECKING:
    from addlib.llm.load import LLM


def sums_form(n_digits: int, shots: int = 4, seed: int = 0, any_length: bool = False) -> Form:
    """Adding, with examples of the same size: numbers and answers have n digits.

    Args:
        any_length: examples as they come. Answers of most are one digit longer and begin with 1.
    """
    drawn = problems((n_digits, n_digits), shots if any_length else 40 * shots, seed + 1)
    fits = [one for one in drawn if any_length or sum(one) < 10**n_digits]
    return Form(ADD, tuple(fits[:shots]))


def sums_as_long(
    n_digits: int, count: int, seed: int = 0, without: Sequence[Problem] = ()
) -> list[Problem]:
    """Random sums of two numbers of n digits whose answers have n digits, too.

    Args:
        count: how many; fewer where four times as many draws hold fewer. without: left out.
    """
    drawn = problems((n_digits, n_digits), 4 * count, seed, without=without)
    return [one for one in drawn if sum(one) < 10**n_digits][:count]


def twins(
    n_digits: int, down: int, count: int, seed: int = 0
) -> tuple[list[Problem], list[Problem]]:
    """Sums with a carry into the top pair, and their twins without; answers have n digits.

    Args:
        down: from 1 to n_digits - 1, how far below the top pair the carry is made.
        count: how many of each.
    """
    task = AdditionTask(n_digits)
    generator = torch.Generator().manual_seed(1000 * seed + 10 * n_digits + down)
    place = 10 ** torch.arange(n_digits)
    both: tuple[list[Problem], list[Problem]] = ([], [])
    while len(both[0]) < count:
        drawn = carry_twins(task, n_digits - 1, down, 4 * count, generator)
        top = (drawn[0].x[:, -1], drawn[0].y[:, -1])
        fits = (top[0] > 0) & (top[1] > 0) & (top[0] + top[1] < 9)
        for kept, asked in zip(both, drawn, strict=True):
            pairs = [
                (asked.x[fits] * place).sum(1).tolist(),
                (asked.y[fits] * place).sum(1).tolist(),
            ]
            kept.extend(zip(*pairs, strict=True))
    return both[0][:count], both[1][:count]


@torch.no_grad()
def answer_logits(
    llm: LLM, form: Form, asked: list[Problem], batch_size: int = 64
) -> tuple[Float[Tensor, "batch digit 10"], Int[Tensor, "batch digit"]]:
    """Logits of the ten digits at each place of the answer, the right ones before it given; answers.

    Both are on the CPU.

    Args:
        asked: problems of one size, whose answers have one length.
    """
    start = SharedStart(llm, form)
    due = torch.tensor([[int(digit) for digit in form.answer(problem)] for problem in asked])
    count = due.shape[1]
    tokens = encode(llm.tokenizer, [form.prompt(problem, count - 1) for problem in asked])
    digits = digit_tokens(llm.tokenizer)
    parts = [start(part, count, tokens=digits).cpu() for part in tokens.split(batch_size)]
    return torch.cat(parts), due


@dataclass(frozen=True)
class Sight:
    """What a model writes first in cascades and in their twins, where all else is right."""

    said: Bool[Tensor, "2 pair"]  # whether own sum and one more is preferred to the own sum
    usable: Bool[Tensor, " pair"]  # all other digits are right, in both

    @classmethod
    def measured(
        cls, llm: LLM, form: Form, n_digits: int, down: int, count: int, seed: int = 0
    ) -> Sight:
        """From so many sums and twins of a model, as :func:`twins` draws them; on the CPU."""
        both = twins(n_digits, down, count, seed)
        return cls.of(*(answer_logits(llm, form, one, 128) for one in both))

    @classmethod
    def of(
        cls,
        cascades: tuple[Float[Tensor, "pair digit 10"], Int[Tensor, "pair digit"]],
        plain: tuple[Float[Tensor, "pair digit 10"], Int[Tensor, "pair digit"]],
    ) -> Sight:
        """From the logits and right answers of both, as :func:`answer_logits` gives them."""
        own = plain[1][:, :1]
        said = []
        usable = []
        for logits, due in (cascades, plain):
            first = logits[:, 0]
            said.append((first.gather(1, own + 1) > first.gather(1, own))[:, 0])
            usable.append((logits[:, 1:].argmax(-1) == due[:, 1:]).all(1))
        return cls(torch.stack(said), usable[0] & usable[1])

    @property
    def every(self) -> Sight:
        """The same with all pairs counted, whatever their other digits are."""
        return Sight(self.said, torch.ones_like(self.usable))

    def d_prime(self, rows: Tensor | slice = slice(None)) -> float:
        """d' of the usable pairs among some; 0 where there is none."""
        said = self.said[:, rows][:, self.usable[rows]]
        hits, alarms = said.sum(1).tolist()
        return d_prime(hits, said.shape[1], alarms, said.shape[1]) if said.shape[1] else 0.0


def seen_one_ahead(problem: Problem) -> list[float]:
    """How often each digit of a sum is right for an observer with one digit of look-ahead.

    It knows its own pair of digits and the next one. Where that sums to 9 it can't tell whether a
    carry comes from further down, and guesses: ``372 + 425`` → [0.5, 1, 1].

    Args:
        problem: numbers of one length, whose sum has as many digits.
    """
    pairs = [int(x) + int(y) for x, y in zip(*map(str, problem), strict=True)]
    guessed = [total == 9 for total in pairs[1:-1]]  # below the last pair there is nothing
    return [0.5 if guess else 1.0 for guess in guessed] + [1.0] * min(2, len(pairs))


def carry_sources(
    count: int, same: bool = False, seed: int = 0, same_digit: bool = False
) -> tuple[list[Problem], list[Problem]]:
    """Two-digit sums and, for each, another one whose carry differs (or is the same).

    Both pairs of digits have other sums in the other one; answers have two digits.

    Args:
        same: whether the carry is the same.
        same_digit: whether both sums end in the same operand digit, so that the other number's
            digit alone makes the difference: ``27 + 46`` and ``51 + 36``.
    """
    generator = random.Random(f"{seed} {same}{' digit' if same_digit else ''}")
    base: list[Problem] = []
    source: list[Problem] = []
    while len(base) < count:
        a, b, c, d = (generator.randint(10, 89) for _ in range(4))
        if same_digit:
            d += b % 10 - d % 10
        tens = [x // 10 + y // 10 for x, y in ((a, b), (c, d))]
        units = [x % 10 + y % 10 for x, y in ((a, b), (c, d))]
        agree = (units[0] > 9) == (units[1] > 9)
        differ = tens[0] != tens[1] and units[0] != units[1] and a // 10 != c // 10
        if max(tens) < 9 and agree == same and differ:
            base.append((a, b))
            source.append((c, d))
    return base, source


@dataclass(frozen=True)
class Writes(FewTokens):
    """A metric: 1 where the likeliest of the ten digits is the one that is due, else 0."""

    digits: Int[Tensor, " 10"]  # their tokens
    due: Int[Tensor, " batch"]

    @property
    def tokens(self) -> Int[Tensor, "batch 10"]:
        return self.digits.expand(len(self.due), -1)

    def of_few(self, logits: Float[Tensor, "*cell batch 10"]) -> Float[Tensor, "*cell batch"]:
        return (logits.argmax(-1) == self.due.to(logits.device)).to(logits.dtype)


# The carry as a variable


@dataclass(frozen=True)
class SumPairs:
    """Sums, and those that streams are taken from: first the sums, then the others in each."""

    tokens: list[Int[Tensor, "pair position"]]
    tens: list[Int[Tensor, " pair"]]  # the own tens' sum
    carry: list[Int[Tensor, " pair"]]  # 0 or 1

    @classmethod
    def drawn(
        cls,
        llm: LLM,
        form: Form,
        count: int,
        same: bool = False,
        same_digit: bool = False,
        seed: int = 0,
    ) -> SumPairs:
        """So many pairs, as of :func:`carry_sources`."""
        both = carry_sources(count, same, seed, same_digit)
        return cls(
            [encode(llm.tokenizer, [form.prompt(one) for one in of]) for of in both],
            [torch.tensor([a // 10 + b // 10 for a, b in of]) for of in both],
            [torch.tensor([int(a % 10 + b % 10 > 9) for a, b in of]) for of in both],
        )

    def written_with(
        self,
        llm: LLM,
        cells: pd.DataFrame,
        due: Sequence[Int[Tensor, " pair"]],
        batch_size: int = 128,
    ) -> tuple[Float[Tensor, "due cell able"], Bool[Tensor, " pair"]]:
        """Whether digits are written with the other sums' streams; and in which pairs that counts.

        These are the pairs in which both sums' tens are right; of random weights all, where none is.

        Args:
            cells: before which layer and at which position, as of
                :meth:`~addlib.patching.sweep.Patcher.sweep`.
            due: the digits.
        """
        digits = digit_tokens(llm.tokenizer)
        found = []
        able = []
        for rows in torch.arange(len(self.tens[0])).split(32):
            sums, sources = (of[rows] for of in self.tokens)
            patcher = Patcher(llm.bridge, sums, sources, batch_size)
            own, others = (Writes(digits, (self.tens[i] + self.carry[i])[rows]) for i in range(2))
            right = patcher.baseline(own) * patcher.exchanged().baseline(others) > 0
            able.append(~right if llm.is_random and not right.any() else right)
            metrics = {str(i): Writes(digits, of[rows]) for i, of in enumerate(due)}
            if able[-1].any():
                swept = patcher.sweep("resid_pre", metrics, index_df=cells)
                found.append(torch.stack([swept[name].values for name in metrics]))
            else:  # none of them counts
                found.append(torch.zeros(len(due), len(cells), len(rows)))
        every = torch.cat(able)
        return torch.cat(found, -1)[..., every], every


def at_best(
    accuracy: Float[Tensor, "layer pair"],
) -> tuple[int, Float[Tensor, " pair"]]:
    """The layer that is best on one half of the pairs, and what it does in the other."""
    on_one_half = torch.arange(accuracy.shape[-1]) % 2 == 0
    best = int(accuracy[:, on_one_half].mean(-1).argmax())
    return best, accuracy[best, ~on_one_half]


@dataclass(frozen=True)
class CarryExchange:
    """What is written at the tens of a sum when a stream comes from a sum with the other carry.

    Hits are 1 or 0, by layer and pair; ``layers`` says before which layers streams were exchanged.
    """

    layers: list[int]
    at_operand: Float[Tensor, "layer pair"]  # own pair and the other carry; last operand digit
    at_equals: Float[Tensor, "layer pair"]
    other_digit_at_operand: Float[Tensor, "layer pair"]  # the other sum's digit
    other_digit_at_equals: Float[Tensor, "layer pair"]
    same_digit: Float[
        Tensor, "layer pair"
    ]  # of sums that end in the same digit; last operand digit
    kept: Bool[
        Tensor, " pair"
    ]  # the own digit, from a source with the same carry, at the best layer
    by_chance: Bool[Tensor, " pair"]  # the other carry, by a random step as long
    pairs: SumPairs = field(repr=False)


def exchange_carries(
    llm: LLM, form: Form, count: int, seed: int = 0, batch_size: int = 128, steps: int = 12
) -> CarryExchange:
    """Exchange residual streams of two-digit sums at the last operand digit and at ``=``.

    What is found lies on the CPU.

    Args:
        form: adding, with nothing but ``=`` behind the last digit.
        count: pairs of sums whose carries differ; as many that end in the same digit, and half as
            many whose carries are the same.
        steps: so many layers are tried, about.
    """
    n_layers: Any = llm.bridge.cfg.n_layers
    tried = range(0, n_layers, max(1, n_layers // steps))
    pairs = SumPairs.drawn(llm, form, count, seed=seed)
    last = pairs.tokens[0].shape[1] - 1
    cells = pd.DataFrame(
        [(layer, place) for place in (last - 1, last) for layer in tried], columns=["layer", "pos"]
    )
    due = [pairs.tens[0] + pairs.carry[1], pairs.tens[1] + pairs.carry[1]]
    written, able = pairs.written_with(llm, cells, due, batch_size)
    carry, other_digit = written.unflatten(1, (2, -1))  # (place, layer, pair)
    at_operand = cells[: len(tried)]

    alike = SumPairs.drawn(llm, form, count, same_digit=True, seed=seed)
    due = [alike.tens[0] + alike.carry[1]]
    same_digit = alike.written_with(llm, at_operand, due, batch_size)[0][0]

    there = at_best(carry[0])[0]
    same = SumPairs.drawn(llm, form, count // 2, same=True, seed=seed)
    due = [same.tens[0] + same.carry[1]]
    kept = same.written_with(llm, at_operand[there : there + 1], due, batch_size)[0]
    aside = _in_random_directions(llm, form, pairs, tried[there], seed)
    by_chance = Writes(digit_tokens(llm.tokenizer), pairs.tens[0] + pairs.carry[1])(aside)
    return CarryExchange(
        list(tried),
        carry[0],
        carry[1],
        other_digit[0],
        other_digit[1],
        same_digit,
        kept.flatten() > 0,
        by_chance[able] > 0,
        pairs,
    )


def _in_random_directions(
    llm: LLM, form: Form, pairs: SumPairs, layer: int, seed: int
) -> Float[Tensor, "pair d_vocab"]:
    """Logits after a step at the last operand digit as long as to the other sum's stream."""
    start = SharedStart(llm, form)
    name = f"blocks.{layer}.hook_resid_pre"
    others: list[Tensor] = []

    def look(value: Tensor, hook: object) -> None:
        others.append(value[:, -2].clone())

    def aside(value: Tensor, hook: object) -> Tensor:
        value = value.clone()
        step = others[0] - value[:, -2]
        generator = torch.Generator().manual_seed(seed)
        way = torch.randn(step.shape, generator=generator).to(step)
        value[:, -2] += way * step.norm(dim=-1, keepdim=True) / way.norm(dim=-1, keepdim=True)
        return value

    start.at_end(pairs.tokens[1], hooks=[(name, look)])
    return start.at_end(pairs.tokens[0], hooks=[(name, aside)])

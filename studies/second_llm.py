"""A second language model: the results of chapters 12 and 15 once more, with the same code.

    python studies/second_llm.py                       # what the record lacks: half an hour on one core
    python studies/second_llm.py "second: carry"       # measures the named parts anew, keeps the others

The record is addlib/data/second_llm.json: for each part what was measured, of how many problems or
pairs, with the interval, the revision and the seconds. Each part is stored as it is done: commit the
record, and a run that was stopped goes on. Of the first model there are the parts that its chapters measure on
fewer pairs, or not at all. Weights are named by their file and its SHA-256.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from addlib.claims import stored
from addlib.claims.provenance import revision
from addlib.device import hardware
from addlib.llm.carries import (
    Sight,
    at_best,
    exchange_carries,
    seen_one_ahead,
    sums_as_long,
    sums_form,
)
from addlib.llm.digit_swaps import swap_digits
from addlib.llm.grading import SharedStart, able, grade, share
from addlib.llm.knock_outs import knock_outs
from addlib.llm.late_neurons import LateNeurons
from addlib.llm.load import LLM, load_llm
from addlib.llm.neuron_rules import best_rules, rules
from addlib.llm.neurons import rank_neurons
from addlib.llm.pairs import PromptPairs, estimated_effects, prompt_pairs
from addlib.llm.prompts import ADD, MULTIPLY, Form, few_shot, problems
from addlib.llm.weights import QWEN, SMOLLM2
from addlib.patching.agreement import EXACT, Agreement
from addlib.patching.gradient import attribution_patch
from addlib.patching.relevance import relevance_patch
from addlib.patching.sweep import Patcher
from addlib.stats import resampled_interval, wilson_interval

SEED = 0

SHOTS = 4

MODELS = {"second": SMOLLM2, "first": QWEN}

FEWEST = {"sights": 8, "carry": 32}
"""With fewer twins or pairs that count, nothing is recorded of them but their number."""

KINDS = ("z", "attn_out", "mlp_out", "resid_pre")
"""What is patched for the estimates; by position but for heads."""

Results = dict[str, Any]


def of_share(hits: Tensor) -> Results:
    """A share of cases with its Wilson interval."""
    right = int((hits > 0).sum())
    return {
        "value": right / len(hits),
        "interval": list(wilson_interval(right, len(hits))),
        "n": len(hits),
    }


def of_statistic(statistic: Callable[..., float], count: int) -> Results:
    """Any statistic of a sample, with its interval over samples drawn again."""
    interval = resampled_interval(statistic, count, seed=SEED)
    return {"value": statistic(torch.arange(count)), "interval": list(interval), "n": count}


def digit_pairs(llm: LLM, asked: list[tuple[int, int]], count: int) -> PromptPairs:
    """Pairs of products that the model gets right and that differ in one digit of the first number."""
    form = few_shot(MULTIPLY, SHOTS, SEED)
    known = able(llm, grade(llm, form, asked, 128))
    return prompt_pairs(form, llm.tokenizer, known, 0, "digit", SEED).first(count)


def products() -> list[tuple[int, int]]:
    """All products of two digits times one, but for the examples, in random order."""
    return problems((2, 1), 720, SEED, without=few_shot(MULTIPLY, SHOTS, SEED).shots)


def multiplying(llm: LLM) -> Results:
    """How many products of one digit or two times one are right, after four examples."""
    form = few_shot(MULTIPLY, SHOTS, SEED)
    small = problems((1, 1), None, SEED, without=form.shots)
    asked = {"1x1": small, "2x1": products()}
    return {name: of_share(grade(llm, form, some, 128).right) for name, some in asked.items()}


def other_forms(llm: LLM, count: int = 64) -> Results:
    """Sums of two digits asked in other ways: is it the form that fails, or the adding?"""
    drawn = [one for one in problems((2, 2), 80 * SHOTS + 4 * count, SEED + 7) if sum(one) < 100]
    short = tuple(drawn[: 4 * SHOTS])  # examples whose sums have two digits, too
    forms = {
        "four examples, sums of two digits": Form(ADD, short[:SHOTS]),
        "sixteen of them": Form(ADD, short),
        "four of them, with spaces": Form(ADD, short[:SHOTS], "{a} {sign} {b} ="),
        "in words, no example": Form(ADD, (), "What is {a}{sign}{b}? Answer: "),
    }
    asked = drawn[4 * SHOTS :][:count]
    return {name: of_share(grade(llm, form, asked, 128).right) for name, form in forms.items()}


def adding(
    llm: LLM, count: int = 128, lengths: range = range(2, 5), any_length: bool = False
) -> Results:
    """Sums digit by digit, the right digits before given, and what one digit of look-ahead gives."""
    found = {}
    for n in lengths:
        form = sums_form(n, SHOTS, SEED, any_length)
        asked = sums_as_long(n, count, SEED, form.shots)
        graded = grade(llm, form, asked, 128)
        ahead = torch.tensor([seen_one_ahead(one) for one in asked])
        found[f"{n} digits"] = of_share(graded.right) | {
            "digits": [share(right)["share"] for right in graded.digit_right.T],
            "one digit of look-ahead": ahead.mean(0).tolist(),
        }
    return found


def neurons(
    llm: LLM, pairs: int = 64, typed: int = 300, tested: int = 200, grid_to: int = 100
) -> Results:
    """Rules of the most important late neurons, and what the loss of a rule's neurons costs."""
    form = few_shot(MULTIPLY, SHOTS, SEED)
    grid = [(a, b) for a in range(10, grid_to) for b in range(2, 10)]
    fit = torch.rand(len(grid), generator=torch.Generator().manual_seed(SEED)) < 0.5
    by = rules(form, grid)
    some = digit_pairs(llm, products(), pairs)
    start = SharedStart(llm, form)
    late = LateNeurons.over(llm, form, grid, start=start)
    chosen = late.most_important(rank_neurons(start, some.clean, some.difference), typed)
    others = late.random_beside(chosen, torch.Generator().manual_seed(SEED))
    found = best_rules(late.of(chosen), by, fit)
    beside = best_rules(late.of(others), by, fit)
    both = torch.stack([found.typed(), beside.typed()]).float()
    lost = knock_outs(late, chosen, found, by, fit, tested)
    return {
        "pairs": len(some),
        "groups": [[*group, len(numbers)] for group, numbers in lost.groups.items()],
        "right digit": float(lost.untouched.exp().mean()),
        "typed": of_share(found.typed()),
        "random typed": of_share(beside.typed()),
        "typed more than random": of_statistic(
            lambda rows: float(both[0, rows].mean() - both[1, rows].mean()), len(chosen)
        ),
        "specificity": of_statistic(lost.specificity, len(lost)),
        "random beside own": of_statistic(lost.beside_random, len(lost)),
    }


def digit_swaps(llm: LLM, sums: int = 300, count: int = 200) -> Results:
    """Neurons of the tens and of the units, exchanged."""
    form = sums_form(2, SHOTS, SEED)
    asked = sums_as_long(2, sums, SEED, form.shots)
    generator = torch.Generator().manual_seed(SEED)
    swaps = swap_digits(llm, form, asked, count, generator)
    return {
        "own digit": of_statistic(swaps.own_digit, len(swaps)),
        "moved": {
            f"{name}, {place}": float(of.mean()) for (name, place), of in swaps.moved.items()
        },
        "changed": of_share(swaps.changed),
        "overlap": swaps.overlap,
    }


def sights(
    llm: LLM, twin_count: int = 64, lengths: range = range(2, 5), any_length: bool = False
) -> Results:
    """d' between sums and their twins by length and by how far down the carry is made."""
    found = {}
    for n in lengths:
        form = sums_form(n, SHOTS, SEED, any_length)
        for down in range(1, n):
            sight = Sight.measured(llm, form, n, down, twin_count, SEED)
            usable = int(sight.usable.sum())
            of_all = sight.every.d_prime()
            entry: Results = {"usable": usable, "of": twin_count, "of all": of_all}
            if usable >= FEWEST["sights"]:
                entry |= of_statistic(sight.d_prime, twin_count)
            found[f"{n} digits, {down} down"] = entry
    return found


def overflowing(llm: LLM, count: int = 64, lengths: range = range(2, 5)) -> Results:
    """A control: sums and twins after examples most of whose answers are one digit longer."""
    return adding(llm, count, lengths, True) | sights(llm, count, lengths, True)


def carry(llm: LLM, count: int = 160, fewest: int = FEWEST["carry"]) -> Results:
    """The carry taken from another sum, at the last operand digit and at ``=``."""
    moved = exchange_carries(llm, sums_form(2, SHOTS, SEED), count, SEED)
    usable = moved.at_operand.shape[1]
    found: Results = {"layers": moved.layers, "asked": count, "usable": usable}
    if usable < fewest:
        return found
    found["kept"] = of_share(moved.kept)
    found["by chance"] = of_share(moved.by_chance)
    found["the other digit at ="] = of_share(at_best(moved.other_digit_at_equals)[1])
    of_claims = {
        "at the last operand digit": moved.at_operand,
        "between sums that end alike": moved.same_digit,
        "at =": moved.at_equals,
    }
    for name, hits in of_claims.items():
        best, there = at_best(hits)
        found[name] = {"pairs": hits.shape[1], "layer": moved.layers[best]}
        if hits.shape[1] >= fewest:
            found[name] |= of_share(there)
    return found


def estimates(llm: LLM, count: int = 32) -> Results:
    """Attribution and relevance patching beside exact patching, on the same pairs."""
    pairs = digit_pairs(llm, products(), count)
    n_start = SharedStart(llm, few_shot(MULTIPLY, SHOTS, SEED)).length
    patcher = Patcher(llm.bridge, pairs.corrupted, pairs.clean, 128)
    methods = {"gradient": attribution_patch, "relevance": relevance_patch}
    effects = {EXACT: {kind: patcher.sweep(kind, pairs.difference).effect() for kind in KINDS}} | {
        name: estimated_effects(of, llm.bridge, KINDS, pairs) for name, of in methods.items()
    }
    for of in effects.values():  # by position, from the question on
        of |= {kind: of[kind][:, n_start:] for kind in KINDS if kind != "z"}
    agreement = Agreement(effects)
    found: Results = {
        f"{method}, {kind}": {
            "value": agreement.fit(method, kind),
            "interval": list(agreement.interval(method, kind, SEED)),
            "n": len(pairs),
            "of ten": len(
                {*agreement.strongest(EXACT, kind)} & {*agreement.strongest(method, kind)}
            ),
        }
        for method, kind in agreement.pairings
    }
    found["relevance beyond gradient"] = of_statistic(
        lambda rows: agreement.lead("relevance", "gradient", KINDS, rows), len(pairs)
    )
    return found


PARTS: dict[str, Callable[[LLM], Results]] = {
    "second: multiplying": multiplying,
    "second: adding": adding,
    "second: other forms": other_forms,
    "second: neurons": neurons,
    "second: digit swaps": digit_swaps,
    "second: sights": sights,
    "second: carry": carry,
    "second: estimates": estimates,
    "first: adding": partial(adding, count=64),
    "first: examples that overflow": overflowing,
    "first: estimates": estimates,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", help=f"parts to measure anew (default: none): {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    stored.clean_revision()
    try:
        measured = stored.read("second_llm")["parts"]
    except ValueError:
        measured = {}
    llm = None
    loaded = ""
    for name, part in PARTS.items():
        if name in measured and name not in options.names:
            continue
        model = name.partition(":")[0]
        if llm is None or loaded != model:
            llm = load_llm(MODELS[model], device=options.device)
            loaded = model
        began = time.perf_counter()
        results = part(llm)
        made = {
            "weights": vars(llm.source),
            "revision": revision(),
            "seconds": round(time.perf_counter() - began),
        }
        measured[name] = made | {"results": results}
        ordered = {known: measured[known] for known in PARTS if known in measured}
        command = "python studies/second_llm.py"
        stored.write("second_llm", command, hardware(llm.device), {"parts": ordered})
        print(f"{name}: {made['seconds']} s", flush=True)


if __name__ == "__main__":
    main()

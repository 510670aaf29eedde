"""For each chapter one thing that is wrong, and real: a label, a formula, a weight."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from operator import attrgetter
from types import ModuleType
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """Something in a module, and what makes a wrong one of the right one."""

    module: str
    name: str
    wrong: Callable[[Any], Any]


def carry_from_nine(carry):
    """A pair that sums to B - 1 carries."""
    return property(lambda questions: carry.func(replace(questions, x=questions.x + 1)))


def without(part):
    """Loads a model whose weights of this part are zero."""

    def spoil(load_or_train):
        def load(*arguments, **options):
            from addlib.models.bridge import weights

            run = load_or_train(*arguments, **options)
            for name, value in weights(run.model).items():
                if part in name:
                    value.data.zero_()
            return run

        return load

    return spoil


def bits(expected_loss):
    """Bits for nats."""
    return lambda *arguments: expected_loss(*arguments) / math.log(2)


def nine_is_rarer(class_probabilities):
    """A pair sums to B - 1 nine times where it should ten times."""

    def probabilities(task):
        classes, lengths = class_probabilities(task)
        longer = [p * 9**k / 10**k for k, p in enumerate(lengths)][1:]
        none = 1 - sum(longer)
        classes = {"BA": classes["BA"], "UC1": none - classes["BA"], "US9": 1 - none}
        return classes, [none, *longer]

    return probabilities


def mean_of_one(hooks):
    """The mean over the reference set is its first question's value."""

    def of_first(model, ablations, reference=None, *arguments, **options):
        listed = list(ablations)
        methods = {ablation.method for ablation in listed}
        first = reference[:1] if "mean" in methods else reference
        return hooks(model, listed, first, *arguments, **options)

    return of_first


def all_determined(tri_state):
    """A pair that sums to B - 1 counts as one that makes no carry."""

    def state(questions):
        from addlib.tasks.subtasks import UNDETERMINED

        states = tri_state(questions)
        return states.masked_fill(states == UNDETERMINED, 0)

    return state


def nine_is_low(states_below):
    """A pair that sums to B - 1 counts as one that sums below."""

    def states(questions, k):
        of_pairs = states_below(questions, k)
        return of_pairs.masked_fill(of_pairs == 0, -1)

    return states


def not_centred(pca):
    """The components of rows from which their mean was not taken."""

    def components(rows):
        import torch

        right = pca(rows)
        count = len(right.shares)
        left, sizes, directions = torch.linalg.svd(rows.double(), full_matrices=False)
        shares = sizes.square() / sizes.square().sum()
        scores = left * sizes
        return replace(
            right,
            directions=directions[:count],
            scores=scores[:, :count],
            shares=shares[:count],
        )

    return components


def sign_of_answer(formula_logits):
    """cos(ω (s + c)) for cos(ω (s - c))."""

    def logits(coefficients, frequencies, p, n_outputs=None):
        right = formula_logits(coefficients, frequencies, p)
        answers = range(n_outputs or p)
        return right[..., [-c % p for c in answers]]

    return logits


def summed(difference):
    """The sum of the two logits for their difference."""
    return lambda self, logits: logits.sum(-1)


def other_way_round(d_prime):
    """Sums taken for their twins, and twins for sums."""

    def measure(self, rows=slice(None)):
        return -d_prime(self, rows)

    return measure


def doubled(along):
    """Every part counted twice."""

    def measure(self, directions):
        return 2 * along(self, directions)

    return measure


def as_written(write_out):
    """Digits in reading order for digits by column."""
    return lambda *arguments, **options: write_out(*arguments, **options).flip(1)


def too_long(fourier_basis):
    """Waves twice as long as one."""
    return lambda p: 2 * fourier_basis(p)


FAULTS = {
    "01_setup": Fault("addlib.tasks.addition", "Questions.carry", carry_from_nine),
    "02_training": Fault("addlib.training.runs", "load_or_train", without("mlp.out")),
    "03_loss_shelves": Fault("addlib.theory.loss_levels", "expected_loss", bits),
    "04_us9_cascades": Fault("addlib.tasks.sampling", "class_probabilities", nine_is_rarer),
    "05_attention_staircases": Fault("addlib.training.runs", "load_or_train", without(".q.")),
    "06_head_ablation": Fault("addlib.analysis.ablation", "hooks", mean_of_one),
    "07_where_and_when": Fault("addlib.tasks.subtasks", "tri_state", all_determined),
    "08_carry_plane": Fault("addlib.analysis.carry_plane", "states_below", nine_is_low),
    "09_exact_addition": Fault("addlib.analysis.answers", "write_out", as_written),
    "10_toy_addition": Fault("addlib.geometry.components", "pca", not_centred),
    "11_grokking": Fault("addlib.geometry.progress_measures", "formula_logits", sign_of_answer),
    "12_qwen_multiplication": Fault("addlib.patching.metrics", "LogitDifference.of_few", summed),
    "15_llm_addition": Fault("addlib.llm.carries", "Sight.d_prime", other_way_round),
    "16_llm_notes": Fault("addlib.llm.direct", "Written.along", doubled),
    "13_shelf_variants": Fault("addlib.theory.loss_levels", "expected_loss", bits),
    "14_first_looks": Fault("addlib.training.runs", "load_or_train", without(".q.")),
    "17_modular_looks": Fault("addlib.geometry.fourier", "fourier_basis", too_long),
}


def spoil(fault: Fault, module: ModuleType) -> None:
    """Put what is wrong in the place of what is right."""
    place, _, name = fault.name.rpartition(".")
    owner = attrgetter(place)(module) if place else module
    setattr(owner, name, fault.wrong(getattr(owner, name)))


class _AfterImport(MetaPathFinder):
    """Spoils a module when it has just been loaded, before anyone takes a name from it."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self.fault.module:
            return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def load_and_spoil(module: ModuleType) -> None:
            load(module)
            spoil(self.fault, module)

        spec.loader.exec_module = load_and_spoil
        return spec


def install(fault: Fault) -> None:
    """Make the fault in every module of this process that is loaded from now on."""
    sys.meta_path.insert(0, _AfterImport(fault))

"""Models from files: what shape and task a file is of, found by trying, and checked by asking it.

A configuration made from a file goes where the book's own go: ``load_or_train`` then opens the
file. A state dict holds one moment of a model and nothing of its training, so what a chapter asks
about that is left out (:mod:`addlib.unknown`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from addlib.models.addition import ModelConfig, answer_logits
from addlib.models.pairs import PairModelConfig, pair_logits
from addlib.models.state_dicts import ModelFileError, StateDict, read_state_dict
from addlib.stats import answer_nll
from addlib.store import RunFolder, key_of, sha256
from addlib.tasks.addition import AdditionTask
from addlib.tasks.pairs import PairTask
from addlib.tasks.sampling import uniform_questions
from addlib.training.addition import TrainConfig
from addlib.training.pairs import PairConfig
from addlib.unknown import NO_TRAINING, LeftOut, Unknown

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

QUESTIONS = 1000
"""Questions that a model from a file is asked before it is believed."""

LEAST_RIGHT = 0.5
"""Share of them that it must get right: well above any guess, below a model in mid-training."""

TRIED_ON = 100
"""Questions on which ways to read a file are compared."""

ACTIVATIONS = ("relu", "gelu", "gelu_new", "silu")
"""Functions of the neurons that are tried: no state dict tells which it is."""


OTHER_SIGNS = {13: [(10, 10, 12), (10, 10, 11)], 15: [(10, 10, 12)]}
"""Base and tokens of ``+`` and ``=`` in public models with more signs, by their vocabulary's size."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: the file or folder, its SHA-256, and what was found in it.

    Args:
        path: the file, or a run's folder.
        sha256: of the file, or of the run's last weights.
        words: whose model, what shape and task, and how many questions it gets right.
        state: the file's weights; None for a run's folder.
    """

    path: Path
    sha256: str
    words: str
    state: StateDict | None = field(default=None, repr=False, compare=False)


class FromFile:
    """A configuration whose model is in a file; ``seed`` is that of questions and fresh models."""

    source: ModelSource
    seed: int

    @property
    def file(self) -> str:
        """The first digits of the file's hash: the name under which values are recorded."""
        return self.source.sha256[:12]

    @property
    def folder(self) -> RunFolder:
        """The run's folder, where the file is one."""
        return _folder(self.source)

    def build(self, device: str = "cpu") -> TransformerBridge:
        """An untrained model of this shape."""
        state = self.source.state
        if state is None:
            return super().build(device)  # type: ignore[misc]
        return state.build(device, self.seed)

    def _known(self, value: Any, shown: str) -> Any:
        """A value of the training, which a state dict does not hold."""
        return value if self.source.state is None else Unknown(NO_TRAINING, shown)


@dataclass(frozen=True)
class FileConfig(FromFile, TrainConfig):
    """The configuration of an addition model from a file."""

    source: ModelSource = field(kw_only=True)

    @property
    def kind(self) -> str:
        """What it answers, as :func:`addlib.notebook.own_model` is told what a chapter takes."""
        return "sums digit by digit"

    @property
    def parameters(self) -> dict[str, Any]:
        """A chapter's parameters that say what the model is, as it has them."""
        return {
            "n_digits": self.task.n_digits,
            "base": self.task.base,
            "n_heads": self.model.n_heads,
            "width": self.model.d_model,
            "steps": self._known(self.steps, "an unknown number of"),
            "lr": self._known(self.lr, "unknown"),
        }


@dataclass(frozen=True)
class PairFileConfig(FromFile, PairConfig):
    """The configuration of a model of pairs from a file."""

    source: ModelSource = field(kw_only=True)

    @property
    def kind(self) -> str:
        """What it answers, as :func:`addlib.notebook.own_model` is told what a chapter takes."""
        return "sums modulo p" if self.task.modular else "sums of two numbers"

    @property
    def parameters(self) -> dict[str, Any]:
        """A chapter's parameters that say what the model is, as it has them."""
        return {
            "p": self.task.p,
            "seeds": 1,
            "epochs": self._known(self.epochs, "an unknown number of"),
            "share": self._known(self.share, "an unknown share"),
            "stop_below": self._known(self.stop_below, "an unknown loss"),
        }

    def sides(self) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
        """Numbers of the training pairs and of those held out; a file does not tell them.

        Raises:
            LeftOut: the file is not a run's folder.
        """
        if self.source.state is not None:
            raise LeftOut(NO_TRAINING)
        return super().sides()


def open_model(path: str | Path, seed: int = 0) -> FileConfig | PairFileConfig:
    """What a model's file is of: a state dict, or the folder of one of our runs.

    Layers, widths and vocabulary are the tensors' sizes; digits follow from the positions, 3n + 3;
    number base or modulus from the vocabulary. What sizes don't tell is found by trying: heads of a
    native file, function of the neurons, whether LayerNorm was folded, order of the answer. Then
    the model is asked 1,000 questions.

    Args:
        path: ``.pth``, ``.pt`` or ``.safetensors``, or a run's folder.
        seed: of questions and of fresh models of this shape.

    Raises:
        ModelFileError: one sentence on why the file is not read; where the model does not add, what
            was inferred and what was found.
    """
    path = Path(path).expanduser()
    is_run = False
    with suppress(OSError):  # what can't be asked is refused below
        is_run = (path / "run.json").is_file()
    if is_run:
        return _open_folder(path)
    state = read_state_dict(path)
    return _pair_model(state, seed) if state.shape.n_ctx <= 3 else _addition_model(state, seed)


# -------------------------------------------------------------------------- our folders
def _open_folder(path: Path) -> FileConfig | PairFileConfig:
    """The configuration in a run's folder."""
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        description = record["description"]
        pairs = "pair_training_version" in description
        kind: Any = PairFileConfig if pairs else FileConfig
        parts = {
            "task": PairTask(**description["task"])
            if pairs
            else AdditionTask(**description["task"]),
            "model": (PairModelConfig if pairs else ModelConfig)(**description["model"]),
        }
        names = {entry.name for entry in fields(kind)} - {"source"}
        values = {name: description[name] for name in names & description.keys()}
        steps = record.get("steps", description["epochs" if pairs else "steps"])
        last = path / f"weights-{steps:06d}.safetensors"
        words = f"a run of this book's code, {steps:,} {'epochs' if pairs else 'steps'}"
        source = ModelSource(path.resolve(), sha256(last), words)
        return kind(**{**values, **parts, "source": source})
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} lacks {Path(error.filename).name}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path}/run.json does not describe a run: {error}") from error


def _folder(source: ModelSource) -> RunFolder:
    if source.state is not None:
        raise ModelFileError(f"{source.path} holds one state of a model, not a run")
    description = json.loads((source.path / "run.json").read_text(encoding="utf-8"))["description"]
    name = source.path.name.removesuffix(f"-{key_of(description)}")
    return RunFolder(name, description, source.path.parent)


# ----------------------------------------------------------------------------- by trying
def _addition_model(state: StateDict, seed: int) -> FileConfig:
    shape = state.shape
    sizes = f"{shape.n_ctx} positions, {shape.d_vocab} tokens in, {shape.d_vocab_out} out"
    if shape.n_ctx % 3 == 1 and shape.d_vocab >= 12:
        raise ModelFileError(
            f"{state.path} has {sizes}: the variant with a sign before the answer (3n + 4 "
            f"positions, as in the models that also subtract), which this book's task lacks"
        )
    read = _vocabularies(state)
    if shape.n_ctx % 3 or shape.n_ctx < 6 or not read:
        raise ModelFileError(
            f"{state.path} has {sizes}: n-digit addition has 3n + 3 positions and base + 2 tokens, "
            f"base 2 to 16, or in base 10 as many as 13 (with -) or 15 (with -, * and /)"
        )
    n_digits = shape.n_ctx // 3 - 1

    def measure(task: AdditionTask, read: StateDict, count: int) -> tuple[float, float]:
        questions = uniform_questions(task, count, torch.Generator().manual_seed(seed))
        logits = _in_parts(partial(answer_logits, read.build(), task), questions.tokens)
        right = (logits.argmax(-1) == questions.answer).all(1)
        return right.double().mean().item(), answer_nll(logits, questions.answer).mean().item()

    tasks = [
        [(AdditionTask(n_digits, base, carry, order), known) for base, known in read]
        for carry in (True, False)
        for order in ("msd", "lsd")
    ]
    task, state, right = _best(tasks, measure)
    asked = f"random {n_digits}-digit sums in base {task.base}"
    if not task.carry:
        asked += " without carries"
    if task.answer_order == "lsd":
        asked += ", units written first"
    words = _words(state, right, QUESTIONS, asked)
    if shape.d_vocab > task.d_vocab:
        words += f" ({shape.d_vocab - task.d_vocab} of its {shape.d_vocab} tokens are not used)"
    if shape.d_vocab_out < task.d_vocab:
        words += "; it predicts digits alone, so + and = are given their mean logit"
    source = ModelSource(state.path.resolve(), state.sha256, words, state)
    return FileConfig(task=task, model=state.shape, seed=seed, source=source)


def _vocabularies(state: StateDict) -> list[tuple[int, StateDict]]:
    """Number bases that the vocabulary may have, each with the model on this task's tokens alone."""
    shape = state.shape
    own = (shape.d_vocab - 2, shape.d_vocab - 2, shape.d_vocab - 1)
    found = []
    for base, *signs in [own, *OTHER_SIGNS.get(shape.d_vocab, [])]:
        digits = list(range(base))
        outputs = {shape.d_vocab: signs, base: [-1, -1]}  # the oldest models predict digits alone
        if 2 <= base <= 16 and shape.d_vocab_out in outputs:
            predicted = digits + outputs[shape.d_vocab_out]
            found.append((base, state.with_tokens(digits + signs, predicted)))
    return found


def _pair_model(state: StateDict, seed: int) -> PairFileConfig:
    shape = state.shape
    p = shape.d_vocab - 1
    if shape.n_ctx != 3:
        raise ModelFileError(
            f"{state.path} has {shape.n_ctx} positions, and a question of pairs has three: a, b and "
            f"=. With two it is a model as in the pizza study, which may mix softmax with a constant "
            f"and look ahead; no state dict tells whether it does, so it is not read"
        )
    outputs = {p: True, p + 1: True, 2 * p: False}  # the oldest models also predict =
    if shape.d_vocab_out not in outputs or p < 2:
        raise ModelFileError(
            f"{state.path} reads {shape.d_vocab} tokens and predicts {shape.d_vocab_out}: a model of "
            f"pairs reads p + 1 and predicts p (sums modulo p), p + 1 (the same and =) or 2p (sums)"
        )
    task = PairTask(p, modular=outputs[shape.d_vocab_out])
    if shape.d_vocab_out == p + 1:
        kept = {name: state.weights[name][:p] for name in ("unembed.weight", "unembed.bias")}
        weights = {**state.weights, **kept}
        state = replace(state, weights=weights).with_shape(d_vocab_out=p)
    if shape.n_layers > 1 or shape.attn_only or state.has_norm:
        raise ModelFileError(
            f"{state.path} has {shape.text}: the chapters on pairs take one layer with an MLP and "
            f"no normalisation"
        )
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))

    def measure(task: PairTask, read: StateDict, count: int) -> tuple[float, float]:
        pairs = task.pairs()[order[:count]]
        logits = _in_parts(partial(pair_logits, read.build(), task), pairs)
        answers = task.answers(pairs)
        right = (logits.argmax(-1) == answers).double().mean().item()
        return right, torch.nn.functional.cross_entropy(logits, answers).item()

    task, state, right = _best([[(task, state)]], measure)
    if state.shape.act_fn != "relu":
        raise ModelFileError(
            f"{state.path} has {state.shape.text}: the chapters on pairs take ReLU neurons"
        )
    if state.shape.n_heads * state.shape.head_width != shape.width or shape.mlp_width % 16:
        raise ModelFileError(
            f"{state.path} has {state.shape.text}: the chapters on pairs take heads that share the "
            f"residual width"
        )
    asked = f"sums modulo {p}" if task.modular else f"sums of two numbers below {p}"
    words = _words(state, right, min(QUESTIONS, p * p), asked)
    source = ModelSource(state.path.resolve(), state.sha256, words, state)
    model: Any = state.shape
    return PairFileConfig(task=task, model=model, seed=seed, source=source)


def _readings(state: StateDict) -> Iterator[tuple[float, list[Callable[[StateDict], StateDict]]]]:
    """What sizes don't tell, one question at a time: the ways to read it, the usual one first.

    Before them stands how good another way must be in place of the usual one: its loss, as a share
    of the usual one's. Functions of the neurons are alike enough for a model to hardly mind.
    """
    shape = state.shape
    if state.form == "native":
        width = shape.head_width
        yield (
            1.0,
            [
                partial(StateDict.with_shape, n_heads=heads, head_width=width // heads)
                for heads in range(1, width + 1)
                if width % heads == 0 and heads <= max(16, width // 8)
            ],
        )
    if not state.has_norm and shape.n_ctx > 3:
        norms = ("LN", None)
        yield 0.5, [partial(StateDict.with_shape, normalization_type=norm) for norm in norms]
    if not shape.attn_only:
        yield 0.5, [partial(StateDict.with_shape, act_fn=name) for name in ACTIVATIONS]


def _best(
    tasks: list[list[tuple[Any, StateDict]]],
    measure: Callable[[Any, StateDict, int], tuple[float, float]],
) -> tuple[Any, StateDict, float]:
    """The task and the way to read that the model answers best, and its share of right answers.

    Args:
        tasks: in groups. Of the first group in which the model answers one, the best is taken.

    Raises:
        ModelFileError: it does not add, in whatever way it is read.
    """
    found = []
    for group in tasks:
        for task, read in group:
            for share, ways in _readings(read):
                tried = [way(read) for way in ways]
                losses = [measure(task, way, TRIED_ON)[1] for way in tried]
                best = min(range(len(tried)), key=losses.__getitem__)
                read = tried[best if losses[best] < share * losses[0] else 0]
            found.append((measure(task, read, QUESTIONS)[0], task, read))
        right, task, read = max(found, key=lambda entry: entry[0])
        if right >= LEAST_RIGHT:
            return task, read, right
    size = (
        f"{task.n_digits} digits in base {task.base}" if hasattr(task, "base") else f"p = {task.p}"
    )
    raise ModelFileError(
        f"{read.path} does not add: read as {size} with {read.shape.text}, it gets {right:.1%} of "
        f"its questions right, and no other way to read it gets {LEAST_RIGHT:.0%}"
    )


@torch.no_grad()
def _in_parts(forward: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    return torch.cat([forward(part) for part in rows.split(250)])


def _words(state: StateDict, right: float, count: int, asked: str) -> str:
    """What was inferred, and what was found."""
    return f"{state.shape.text}; {right:.1%} of {count:,} {asked} right"

"""Take something out of a model and see what breaks: interventions on heads, positions, the MLP.

An ablation replaces an activation by zeros, by its mean over a reference set of questions (position
by position), or by that of another question of the set: a random one, or a chosen one for each
question. The reference set matters: the mean over questions without carries says "no carry", and a
carry head that is replaced by it goes on telling the truth about them. So there is no default set.

Everything runs through TransformerLens's hooks, at any hook point that holds (batch, position, …)
activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addlib.analysis.activations import activations
from addlib.analysis.answers import Hook
from addlib.checks import check_choice
from addlib.device import undo_if_tried_again
from addlib.tasks.addition import Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


COMPONENTS = {
    "z": "attn.hook_z",
    "v": "attn.hook_v",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "resid_pre": "hook_resid_pre",
}
"""Hook points within a layer; the first two have a head axis."""

Replacements = Callable[[int], Tensor]
"""Activations that take the place of those of a batch of so many questions, or one for all."""


def _mean(values: Tensor, seed: int) -> Replacements:
    mean = values.mean(0, keepdim=True)
    return lambda count: mean


def _resample(values: Tensor, seed: int) -> Replacements:
    generator = torch.Generator().manual_seed(seed)

    def drawn(count: int) -> Tensor:
        undo_if_tried_again(partial(generator.set_state, generator.get_state()))
        return values[torch.randint(len(values), (count,), generator=generator)]

    return drawn


def _swap(values: Tensor, seed: int) -> Replacements:
    done = 0

    def go_back(to: int) -> None:
        nonlocal done
        done = to

    def following(count: int) -> Tensor:
        nonlocal done
        undo_if_tried_again(partial(go_back, done))
        done += count
        if done > len(values):
            raise ValueError(f"swap: {done} questions, but only {len(values)} reference questions")
        return values[done - count : done]

    return following


METHODS = {"mean": _mean, "resample": _resample, "swap": _swap}
"""What replaces an activation, from those of the reference questions; ``"zero"`` needs none."""


@dataclass(frozen=True)
class Ablation:
    """One activation to replace.

    Args:
        component: ``"z"`` or ``"v"`` of one head, what attention or the MLP writes (``"attn_out"``,
            ``"mlp_out"``), or the residual stream that the layer reads (``"resid_pre"``).
        head: the head, for z and v; None for the others.
        layer: counted from 0.
        positions: token positions; None means all.
        method: ``"zero"``, ``"mean"``, ``"resample"`` (a random reference question for each
            question) or ``"swap"`` (question i gets the activation of reference question i).
        share: how far the activation goes towards its replacement; 0.5 takes out one of two equal
            halves.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    component: str = "z"
    head: int | None = None
    layer: int = 0
    positions: Sequence[int] | None = None
    method: str = "mean"
    share: float = 1.0

    def __post_init__(self) -> None:
        check_choice(self, tuple(COMPONENTS), "component")
        check_choice(self, ("zero", *METHODS), "method")
        if (self.component in ("z", "v")) == (self.head is None):
            need = "needs a head" if self.head is None else "has no heads"
            raise ValueError(f"head = {self.head!r}: component {self.component!r} {need}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share = {self.share!r}: must be above 0 and at most 1")

    @property
    def hook_name(self) -> str:
        """TransformerLens's name of the activation."""
        return f"blocks.{self.layer}.{COMPONENTS[self.component]}"


def hooks(
    model: TransformerBridge,
    ablations: Iterable[Ablation],
    reference: Questions | None = None,
    seed: int = 0,
) -> list[Hook]:
    """Hooks that carry out the ablations together, for :func:`addlib.analysis.answers.answer`.

    ``"resample"`` and ``"swap"`` go on through the reference set from batch to batch, so make new
    hooks for each set of questions. How many questions a batch has changes nothing.

    Args:
        reference: questions that means and replacements come from; needed unless all ablations are
            ``"zero"``. For ``"swap"`` as many as there are questions.
        seed: of the draws of ``"resample"``.

    Raises:
        ValueError: a layer, head or position that the model lacks, or a reference set that is empty
            or missing.
    """
    return [(a.hook_name, _replacement(model, a, reference, seed)) for a in ablations]


def _replacement(
    model: TransformerBridge, ablation: Ablation, reference: Questions | None, seed: int
) -> Callable[..., Tensor]:
    """The hook function of one ablation."""
    cfg: Any = model.cfg
    positions = range(cfg.n_ctx) if ablation.positions is None else ablation.positions
    places = [("layer", ablation.layer, cfg.n_layers)]
    places += [("position", position, cfg.n_ctx) for position in positions]
    at: tuple[Any, ...] = (slice(None), torch.tensor(positions, dtype=torch.int64))
    if ablation.head is not None:
        places.append(("head", ablation.head, cfg.n_heads))
        at += (ablation.head,)
    for name, value, count in places:
        if not 0 <= value < count:
            raise ValueError(f"{name} = {value!r}: this model has {name}s 0 to {count - 1}")
    if ablation.method == "zero":
        replacements = None
    elif reference:
        values = activations(model, ablation.hook_name, reference)
        replacements = METHODS[ablation.method](values, seed)
    else:
        count = None if reference is None else 0
        raise ValueError(
            f"reference = {count}: method {ablation.method!r} needs reference questions"
        )

    def hook(value: Tensor, **_: object) -> Tensor:
        value = value.clone()
        own = value[at]
        new = torch.zeros_like(own) if replacements is None else replacements(len(value))[at]
        value[at] = own.lerp(new.to(value), ablation.share)
        return value

    return hook


def past_and_through_mlp(
    model: TransformerBridge,
    ablations: Sequence[Ablation],
    questions: Questions,
    reference: Questions | None = None,
    seed: int = 0,
) -> tuple[list[Hook], list[Hook]]:
    """Hooks that let ablations of attention act past the MLP alone, and through the MLP alone.

    Path patching: past it, the MLP writes what it writes without them; through it, the MLP writes
    what it writes with them and all else is as without. Both are for one-layer models.

    Args:
        questions: those that the model is then asked, all in one batch.
        reference, seed: as for :func:`hooks`.
    """
    name = f"blocks.0.{COMPONENTS['mlp_out']}"

    def written(under: list[Hook]) -> Hook:
        with model.hooks(fwd_hooks=under):
            values = activations(model, name, questions, batch_size=len(questions))
        return name, lambda value, **_: values.to(value)

    def edits() -> list[Hook]:
        return hooks(model, ablations, reference, seed)

    return [*edits(), written([])], [written(edits())]

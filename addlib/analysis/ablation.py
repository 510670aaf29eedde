"""Take something out of a model and see what breaks: interventions on heads, positions and the MLP.

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
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from addlib.analysis.activations import activations
from addlib.analysis.answers import Hook
from addlib.tasks.addition import Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


COMPONENTS = {
    "z": "attn.hook_z",
    "v": "attn.hook_v",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
}
"""Hook points within a layer; the first two have a head axis."""


METHODS = ("zero", "mean", "resample", "swap")


@dataclass(frozen=True)
class Ablation:
    """One activation to replace.

    Args:
        component: ``"z"`` or ``"v"`` of one head, or ``"attn_out"``, ``"mlp_out"``.
        head: the head, for z and v; None for the others.
        layer: counted from 0.
        positions: token positions; None means all.
        method: ``"zero"``, ``"mean"``, ``"resample"`` (a random reference question for each
            question) or ``"swap"`` (question i gets the activation of reference question i).

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    component: str = "z"
    head: int | None = None
    layer: int = 0
    positions: Sequence[int] | None = None
    method: str = "mean"

    def __post_init__(self) -> None:
        if self.component not in COMPONENTS:
            raise ValueError(
                f"component = {self.component!r}: must be one of {', '.join(COMPONENTS)}"
            )
        if self.method not in METHODS:
            raise ValueError(f"method = {self.method!r}: must be one of {', '.join(METHODS)}")
        if (self.component in ("z", "v")) == (self.head is None):
            need = "needs a head" if self.head is None else "has no heads"
            raise ValueError(f"head = {self.head!r}: component {self.component!r} {need}")

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
    """Hooks that carry out the ablations together: ``answer(model, questions,
    hooks=hooks(...))``.

    ``"resample"`` and ``"swap"`` go on through the reference set from batch to batch, so make the
    hooks anew for each set of questions.

    Args:
        reference: questions that means and replacements come from; needed unless all ablations are
            ``"zero"``. For ``"swap"`` as many as there are questions.
        seed: of the draws of ``"resample"``.

    Raises:
        ValueError: a layer, head or position that the model lacks, or a reference set that is empty
            or missing.
    """
    return [(one.hook_name, _replacement(model, one, reference, seed)) for one in ablations]


def _replacement(
    model: TransformerBridge, one: Ablation, reference: Questions | None, seed: int
) -> Callable[..., Tensor]:
    cfg: Any = model.cfg
    _check("layer", one.layer, cfg.n_layers)
    if one.head is not None:
        _check("head", one.head, cfg.n_heads)
    positions = range(cfg.n_ctx) if one.positions is None else one.positions
    for position in positions:
        _check("position", position, cfg.n_ctx)
    if one.method == "zero":
        values = torch.zeros(())
    elif reference is None or len(reference) == 0:
        count = None if reference is None else len(reference)
        raise ValueError(f"reference = {count}: method {one.method!r} needs reference questions")
    else:
        values = activations(model, one.hook_name, reference)
        if one.method == "mean":
            values = values.mean(0, keepdim=True)
    where = (slice(None), torch.tensor(positions, dtype=torch.int64)) + (
        () if one.head is None else (one.head,)
    )
    generator, done = torch.Generator().manual_seed(seed), 0

    def hook(value: Tensor, **_: object) -> Tensor:
        nonlocal done
        if one.method == "zero":
            new = value.new_zeros(())
        elif one.method == "mean":
            new = values.expand_as(value)[where]
        elif one.method == "resample":
            new = values[torch.randint(len(values), (len(value),), generator=generator)][where]
        else:
            if done + len(value) > len(values):
                raise ValueError(
                    f"swap: {done + len(value)} questions, but only {len(values)} reference "
                    f"questions"
                )
            new = values[done : done + len(value)][where]
            done += len(value)
        value = value.clone()
        value[where] = new.to(value)
        return value

    return hook


def _check(name: str, value: int, count: int) -> None:
    if not 0 <= value < count:
        raise ValueError(f"{name} = {value!r}: this model has {name}s 0 to {count - 1}")

"""Relevance patching: attribution patching with the slopes that make nonlinear steps unreliable mended.

A gradient asks what an infinitely small change does. Where a replacement is large, a norm's
divisor, a gate and an attention pattern change as well, and their slopes at one end say little
about the way to the other. Relevance patching (RelP, Rezaei Jafari et al. 2025) sends something
else back through these steps, as layer-wise relevance propagation does:

- a norm divides by a constant, the divisor of the base run;
- an activation function multiplies by a constant, its output / its input in the base run;
- attention weights are constants;
- where a gate multiplies, each of both factors gets half.

Everything else is as in :func:`addlib.patching.gradient.attribution_patch`, and so is the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from addlib.patching.gradient import attribution_patch
from addlib.patching.metrics import Metric

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.patching import PatchingResult


LOOKING = ("q", "k", "pattern")
"""Kinds that act through attention weights alone, which are constants here."""


def relevance_patch(
    model: TransformerBridge,
    kinds: Sequence[str],
    base: Int[Tensor, "batch position"],
    source: Int[Tensor, "batch position"],
    metric: Metric,
) -> dict[str, PatchingResult]:
    """Estimates of whole sweeps by kind, as of ``attribution_patch``, by rules for each step.

    They are on the CPU.

    Args:
        model, kinds, base, source, metric: as of
            :func:`~addlib.patching.gradient.attribution_patch`.

    Raises:
        ValueError: as there; a kind of :data:`LOOKING`; blocks without a norm before attention and
            one before an MLP whose activation function is a module.
    """
    fixed = [kind for kind in kinds if kind in LOOKING]
    if fixed:
        raise ValueError(
            f"kinds {', '.join(fixed)}: attention weights are constants in relevance patching; "
            f"take attribution_patch for them"
        )
    with _rules(model):
        return attribution_patch(model, kinds, base, source, metric)


@contextmanager
def _rules(model: TransformerBridge) -> Iterator[None]:
    """Values as they are, and gradients by the rules above."""
    with ExitStack() as stack:

        def after(module: Any, rule: Any) -> None:
            stack.callback(module.register_forward_hook(rule).remove)

        try:
            for block in model.blocks:
                layer: Any = block
                after(layer.ln1, _divide_by_a_constant)
                after(layer.ln2, _divide_by_a_constant)
                after(layer.attn.hook_pattern, _hold)
                mlp = layer.mlp.original_component
                after(mlp.act_fn if hasattr(mlp, "act_fn") else mlp.act, _multiply_by_a_constant)
                if hasattr(mlp, "up_proj"):
                    after(mlp.act_fn, _halve)
                    after(mlp.up_proj, _halve)
            after(model.ln_final, _divide_by_a_constant)
        except AttributeError as error:
            raise ValueError(
                f"relevance patching knows no rule for these blocks: {error}"
            ) from error
        yield


def _divide_by_a_constant(norm: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
    """A norm whose divisor has no slope."""
    inner = norm.original_component
    bias = getattr(inner, "bias", None)
    into = inputs[0]
    if isinstance(inner, torch.nn.LayerNorm):
        into = into - into.mean(-1, keepdim=True)
    linear = out if bias is None else out - bias
    return out.detach() + _constant_slope(into, linear)


def _multiply_by_a_constant(module: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
    """An activation function as its input times a factor without slope."""
    return out.detach() + _constant_slope(inputs[0], out)


def _constant_slope(into: Tensor, out: Tensor) -> Tensor:
    """0, with the slope out / into."""
    far = torch.where(into.abs() < 1e-12, 1e-12, into)
    return (into - into.detach()) * (out / far).detach()


def _halve(module: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
    """Half of the gradient."""
    return out / 2 + out.detach() / 2


def _hold(module: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
    """No gradient."""
    return out.detach()

"""One trained pair model in a row of numbers: its line, its parabola, its angle.

What chapter 10 of the book measures on each model, gathered so that models of other sizes and
models with biases can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.geometry.angles import (
    Plane,
    fit_plane,
    means_by,
    nearest_direction,
    unwrapped,
    widest_line_step,
)
from addlib.geometry.components import fit_parabola, pca
from addlib.models.pairs import PairModelConfig, accuracy, logits_from, pair_paths
from addlib.tasks.pairs import PairTask


def portrait(
    weights: Mapping[str, Tensor], config: PairModelConfig, task: PairTask
) -> dict[str, float]:
    """The shape of one model that adds without wrap-around.

    Args:
        weights: the bridge's parameters by name.

    Returns:
        Shares of pairs: ``right``, ``PC1 only`` (right where embeddings keep their first component
        alone), ``as nearest angle`` (answered then as the sum nearest in angle). Shares of W_E's
        variance: ``PC1``, ``PC2``. ``PC2 parabola``: R² of a parabola. Degrees: ``angle`` from the
        smallest sum to the largest, ``least step`` between neighbours, ``of a line`` its bound for
        points on a straight line (:func:`addlib.geometry.angles.widest_line_step`).
    """
    device = weights["embed.weight"].device
    answers = task.answers(task.pairs()).to(device)
    part = pca(weights["embed.weight"][: task.p].double())
    paths = pair_paths(weights, config, task)
    means = means_by(paths.mid, answers)
    angle = unwrapped(fit_plane(paths.mid, answers).angles(means))
    one = part.keep([0])
    alone = pair_paths(weights, config, task, keys=one, values=one, direct=one)
    as_nearest = nearest_direction(alone.mid, means) == alone.logits.argmax(1)
    return {
        "right": accuracy(paths.logits, answers).item(),
        "PC1": part.shares[0].item(),
        "PC2": part.shares[1].item(),
        "PC2 parabola": fit_parabola(torch.arange(task.p, device=device), part.scores[:, 1]).r2,
        "angle": (angle[-1] - angle[0]).rad2deg().item(),
        "least step": angle.diff().min().rad2deg().item(),
        "of a line": math.degrees(widest_line_step(task.p - 1)),
        "PC1 only": accuracy(alone.logits, answers).item(),
        "as nearest angle": as_nearest.double().mean().item(),
    }


def wedges(
    weights: Mapping[str, Tensor], plane: Plane, directions: int = 3600
) -> tuple[Float[Tensor, " wedge"], Int[Tensor, " wedge"]]:
    """What the MLP and the unembedding answer to each direction of a plane that they read.

    Args:
        weights: the bridge's parameters by name.
        directions: how many are asked, evenly spread.

    Returns:
        The angle at which each wedge ends, in radians from "up", and its answer.
    """
    clock = torch.arange(directions, device=plane.axes.device).double()
    clock = clock * 2 * math.pi / directions
    hand = torch.stack([clock.sin(), clock.cos()], 1) @ plane.axes
    answer = logits_from(weights, hand).argmax(1)
    last = (answer != answer.roll(-1)).nonzero()[:, 0]
    return clock[last], answer[last]

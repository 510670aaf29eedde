"""One trained pair model in a row of numbers: its line, its parabola, its angle.

What chapter 10 of the book measures on each model, gathered so that models of other sizes and
models with biases can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

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


@dataclass(frozen=True)
class PlaneNeurons:
    """What stands between a plane and the logits in a model without biases, and nothing else.

    A neuron has one direction that it likes best. It is on where the vector points less than 90
    degrees away from it: then it adds its votes, times the vector's part along this direction.
    """

    angles: Float[Tensor, " neuron"]  # of the directions, radians from "up"
    votes: Float[Tensor, "neuron output"]  # logits for a vector of length 1 along the direction
    direct: Float[Tensor, "2 output"]  # what the two coordinates add past the neurons

    @property
    def sizes(self) -> Float[Tensor, " neuron"]:
        """How much each neuron's votes tell outputs apart: their distance from their mean."""
        return (self.votes - self.votes.mean(1, keepdim=True)).norm(dim=1)

    def added(self, points: Float[Tensor, "n 2"]) -> Float[Tensor, "n output"]:
        """What the neurons add to the logits of points in the plane."""
        liked = torch.stack([self.angles.sin(), self.angles.cos()])
        return (points @ liked).relu() @ self.votes

    def logits(self, points: Float[Tensor, "n 2"]) -> Float[Tensor, "n output"]:
        """Logits of points in the plane: exactly the model's."""
        return self.added(points) + points @ self.direct

    def sectors(self, count: int) -> Int[Tensor, " neuron"]:
        """In which of so many equal sectors of the plane each neuron's direction lies."""
        turn = (self.angles + math.pi) / (2 * math.pi)
        return (turn * count).floor().long().clamp(0, count - 1)

    def merged(self, groups: Int[Tensor, " neuron"]) -> PlaneNeurons:
        """The same with one neuron for each group, in the order of the groups.

        It has the votes of all of them, and their mean direction, weighted by `sizes`: exact where
        the directions of a group are one.
        """
        _, groups = groups.unique(return_inverse=True)
        member = one_hot(groups).to(self.votes).T  # (group, neuron)
        liked = torch.stack([self.angles.sin(), self.angles.cos()], 1) * self.sizes[:, None]
        across, up = (member @ liked).T
        return PlaneNeurons(torch.atan2(across, up), member @ self.votes, self.direct)


def plane_neurons(weights: Mapping[str, Tensor], plane: Plane) -> PlaneNeurons:
    """The MLP and the unembedding of a model without biases, as they read a plane.

    Args:
        weights: the bridge's parameters by name.
    """
    read = weights["blocks.0.mlp.in.weight"].double() @ plane.axes.T
    unembed = weights["unembed.weight"].double()
    votes = weights["blocks.0.mlp.out.weight"].double().T @ unembed.T
    angles = torch.atan2(read[:, 0], read[:, 1])
    return PlaneNeurons(angles, read.norm(dim=1, keepdim=True) * votes, plane.axes @ unembed.T)

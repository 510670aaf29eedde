"""Curves around the origin: the plane they lie in, angles in it, turning, nearest directions.

A network without biases and normalisation can't tell x from 2x but by the size of its logits: what
it answers depends on the direction of x alone. So where it reads a quantity, that quantity is an
angle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from addlib.geometry.components import correlation


@dataclass(frozen=True)
class Plane:
    """A plane through the origin; its axes grow with the order, and "up" to the rows' mean.

    Angles are measured from "up", in radians; they are positive on the side of the rows that come
    late in the order.
    """

    axes: Float[Tensor, "2 d"]  # orthonormal
    share: float  # of the rows' squared norm (about the origin) that lies in the plane

    def points(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        """Coordinates of the rows' projections."""
        return rows.double() @ self.axes.T

    def angles(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Angles of the rows' projections, from -π to π."""
        x, y = self.points(rows).T
        return torch.atan2(x, y)

    def turned(self, rows: Float[Tensor, "n d"], by: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The rows, each turned within the plane by an angle (radians); the rest of them stays."""
        x, y = self.points(rows).T
        turned = torch.stack([x * by.cos() + y * by.sin(), y * by.cos() - x * by.sin()], 1)
        return rows.double() + (turned - torch.stack([x, y], 1)) @ self.axes


def fit_plane(rows: Float[Tensor, "n d"], order: Float[Tensor, " n"]) -> Plane:
    """The plane through the origin that holds most of the rows' squared norm.

    Args:
        order: a number for each row (its sum); it fixes the sign of the first axis.
    """
    rows = rows.double()
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    axes = directions[:2]
    mean = axes @ rows.mean(0)
    # Rows that balance around the origin have no "up": then it is the direction of less norm.
    up = normalize(mean, dim=0) if mean.norm() > 1e-9 * sizes[0] else mean.new_tensor([0.0, 1.0])
    axes = torch.stack([up[1] * axes[0] - up[0] * axes[1], up[0] * axes[0] + up[1] * axes[1]])
    if correlation(order, rows @ axes[0]) < 0:
        axes = axes * axes.new_tensor([[-1.0], [1.0]])
    return Plane(axes, float(sizes[:2].square().sum() / sizes.square().sum()))


def unwrapped(angles: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Angles (radians) along a path, with whole turns added: each step is at most half a turn."""
    return torch.from_numpy(np.unwrap(angles.double().cpu().numpy())).to(angles.device)


def widest_line_step(n: int) -> float:
    """Smallest angle between neighbours (radians), at best, of points -n…n on a straight line.

    Seen from a distance h off the middle of the line, they lie at atan(s / h), closest at the ends.
    There the step atan(n / h) - atan((n - 1) / h) is largest for h = √(n (n - 1)).
    """
    h = math.sqrt(n * (n - 1))
    return math.atan(n / h) - math.atan((n - 1) / h)


def nearest_direction(
    rows: Float[Tensor, "n d"], references: Float[Tensor, "c d"]
) -> Int[Tensor, " n"]:
    """For each row the reference of the largest cosine similarity: nearest in angle."""
    return (normalize(rows.double(), dim=1) @ normalize(references.double(), dim=1).T).argmax(1)


def means_by(rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> Float[Tensor, "label d"]:
    """Mean row of each label 0…max; every label must occur."""
    member = one_hot(labels).to(rows.dtype)  # (n, label); index_add_ has no fixed order on a GPU
    return member.T @ rows / member.sum(0)[:, None]

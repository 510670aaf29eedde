"""Clock or pizza? Three measures that tell apart two ways of adding on a circle.

Both ways put the numbers on a circle. A *clock* multiplies: from the angles of a and b it makes
the waves of a + b, so no pair is better off than another. A *pizza* averages: the midpoint of the
two points on the circle has the direction of (a + b) / 2, and it lies the nearer to the centre, the
farther a and b stand apart.

The measures are those of Zhong, Liu, Tegmark & Andreas (NeurIPS 2023, arXiv 2306.17844), with the
choices of the code published with the paper.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.geometry.components import pca
from addlib.geometry.fourier import frequency_shares
from addlib.geometry.progress_measures import pair_sums


def distance_irrelevance(logits: Float[Tensor, "p p p"]) -> float:
    """How little the right answer's logit depends on a - b: near 1 for a clock, 0 for a pizza.

    The mean over a - b of the logit's standard deviation over a + b, by that over all pairs.
    """
    p = len(logits)
    sums = pair_sums(p).to(logits.device)
    right = logits.flatten(0, 1).double().gather(1, sums[:, None]).reshape(p, p)
    b = torch.arange(p, device=logits.device)
    at_distance = right[(b[:, None] + b) % p, b]  # row d: all pairs with a - b ≡ d
    return float(at_distance.std(1, correction=0).mean() / right.std(correction=0))


def height_by_angle(logits: Float[Tensor, "p p p"], frequency: int) -> Float[Tensor, " p"]:
    """The height of the logits' wave cos ω (a + b - c), by the angle ω (a - b), over its mean.

    Entry j is of the angle 2π (j - p // 2) / p. A clock has 1 everywhere; a pizza is highest at
    angle 0 and has a gap at both ends. For a frequency without common divisor with p.
    """
    p = len(logits)
    numbers = torch.arange(p, device=logits.device)
    sums = pair_sums(p).to(logits.device)
    turns = (frequency * (sums[:, None] - numbers) % p).double() * (2 * math.pi / p)
    heights = (logits.flatten(0, 1).double() * turns.cos()).sum(1).view(p, p)
    by_distance = heights[(numbers[:, None] + numbers) % p, numbers].mean(1)
    by_angle = torch.empty_like(by_distance)
    by_angle[(frequency * numbers + p // 2) % p] = by_distance
    return by_angle / by_angle.mean()


@functools.cache
def some_triples(p: int, count: int = 100) -> Int[Tensor, "triples 3"]:
    """The triples (a, b, c) at which the published code asks for gradients, the same in each run."""
    order = list(range(p**3))
    random.Random(42).shuffle(order)
    chosen = torch.tensor(order[:count])
    return torch.stack([chosen // p**2, chosen // p % p, chosen % p], 1)


def gradient_cosines(
    answer: Callable[[Tensor, Tensor], Float[Tensor, "triples c"]],
    first: Float[Tensor, "p d"],
    second: Float[Tensor, "p d"],
    triples: Int[Tensor, "triples 3"],
) -> Float[Tensor, " triples"]:
    """Cosine of a logit's gradients in the two numbers' embeddings: 1 for a perfect pizza.

    Their mean is the *gradient symmetricity*.

    Args:
        answer: logits of embedded numbers, row by row: ``answer(first[a], second[b])``.
        first, second: embeddings of the numbers in the first place and in the second.
        triples: numbers a and b, and the answer c whose logit is asked about, e.g.
            :func:`some_triples`.
    """
    a, b, c = triples.to(first.device).T
    rows = [first[a].detach().requires_grad_(), second[b].detach().requires_grad_()]
    with torch.enable_grad():
        # Rows do not mix, so the sum's gradient in a row is that of this row's logit.
        asked = answer(*rows).gather(1, c[:, None]).sum()
        first_gradient, second_gradient = torch.autograd.grad(asked, rows)
    return torch.cosine_similarity(first_gradient.double(), second_gradient.double())


def circularity(W_E: Float[Tensor, "p d"]) -> float:
    """How nearly each of the embedding's first four principal components is one wave, 0 to 1.

    The mean over the components of the largest share of a frequency in their squares.
    """
    scores = pca(W_E.double()).scores[:, :4]
    return float(frequency_shares(scores.T[..., None]).max(-1).values.mean())

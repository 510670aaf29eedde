"""Mistakes foretold by tables: settings called wrong, by how much, and one sum of each setting.

Sums are those of :func:`addlib.tasks.sampling.every_setting`, in which the two of a setting stand
side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from addlib.analysis.carry_plane import CarrySample

EDGES = (0, 0.5, 1, 2, 3, np.inf)
"""Ends of the classes of distance from the threshold, in units of u."""


def surest_wrong(
    mistaken: Bool[Tensor, " batch"], distance: Float[Tensor, " batch"], most: int = 20_000
) -> Int[Tensor, " chosen"]:
    """Of each setting called wrong the sum that is farthest from its threshold, surest first.

    Args:
        mistaken: where a sum is called wrong. most: so many settings, the surest.
    """
    of_setting, which = torch.where(mistaken, distance, -1.0).view(-1, 2).max(1)
    chosen = 2 * torch.arange(len(which), device=which.device) + which
    order = of_setting.argsort(descending=True)
    return chosen[order][: min(int((of_setting > 0).sum()), most)]


def by_sureness(distance: Float[Tensor, " batch"]) -> list[Bool[Tensor, " batch"]]:
    """Where the distance lies in each of the classes of `EDGES`."""
    return [(distance > low) & (distance <= high) for low, high in pairwise(EDGES)]


def one_each(
    mask: Bool[Tensor, " batch"], generator: torch.Generator, most: int
) -> Int[Tensor, " chosen"]:
    """For some settings at random one of the two sums, where the mask is True for it."""
    which = 2 * torch.randperm(len(mask) // 2, generator=generator)
    which += torch.randint(2, (len(which),), generator=generator)
    which = which.to(mask.device)
    return which[mask[which]][:most]


def mistakes_called(
    sample: CarrySample, margins: Mapping[str, Float[Tensor, " batch"]]
) -> pd.DataFrame:
    """The wrong digits of a sample: what is written, the pair two below, and who calls them.

    Args:
        margins: u less its threshold, by name; whoever is on the side that the model writes calls
            the digit.
    """
    asked, k = sample.questions, sample.k
    two_below = [f"{x} + {y}" for x, y in zip(asked.x[:, k - 2], asked.y[:, k - 2], strict=True)]
    columns = {
        "sum": [asked.task.text(row).partition("=")[0] for row in asked.tokens],
        "longest cascade": asked.cascade_length.tolist(),
        "digit": f"A{k}",
        "model": sample.digits.tolist(),
        "two below": two_below if k > 1 else "",
    }
    for name, margin in margins.items():
        columns[name] = margin.tolist()
        columns[f"by {name}"] = ((margin > 0) == sample.more).tolist()
    return pd.DataFrame(columns)[sample.wrong.cpu().numpy()]

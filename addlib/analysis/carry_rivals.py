"""What else could foretell whether a model writes the own sum or one more: rivals of the plane.

Observers see whole pairs and guess where these don't settle the carry; a curved boundary sees some
directions of the residual stream; boosted trees see the digits themselves, and so say how much can
be foretold at all. What is fitted is fitted on one sample and asked of another.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from addlib.analysis.carry_plane import CENTRE, CarrySample


def observers(sample: CarrySample) -> dict[str, Bool[Tensor, " batch"]]:
    """Whether each observer of whole pairs says "one more"; two pairs take no carry for granted."""
    return {
        "the truth": sample.questions.carry[:, sample.k],
        "two pairs": sample.cells >= 6,  # the pair below makes it
        "three, no carry": sample.cells > CENTRE,
        "three, carry": sample.cells >= CENTRE,
    }


def guess_by_own_sum(fitted: CarrySample, sample: CarrySample) -> Bool[Tensor, " batch"]:
    """Three pairs, and in the centre cell what the model mostly writes with this own sum."""
    votes = torch.zeros(4 * sample.questions.task.base, dtype=torch.int64)
    here = fitted.in_centre
    votes.index_add_(0, fitted.groups[here], 2 * fitted.more[here].long() - 1)
    return torch.where(sample.in_centre, votes[sample.groups] > 0, sample.cells > CENTRE)


def curved_boundary(
    fitted: CarrySample, sample: CarrySample, directions: Float[Tensor, "d_model r"]
) -> Bool[Tensor, " batch"]:
    """What a logistic boundary in some directions says, with squares and products.

    There is one boundary for each own sum and carry out. Where the model always writes the same
    there, or never was seen, it says that.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    known, asked = ((each.resid_mid @ directions).numpy() for each in (fitted, sample))
    more = fitted.more.numpy()
    says = np.zeros(len(asked), bool)
    for group in sample.groups.unique().tolist():
        here = (fitted.groups == group).numpy()
        there = (sample.groups == group).numpy()
        if len(np.unique(more[here])) < 2:
            says[there] = more[here].any()
            continue
        logistic = LogisticRegression(C=10, max_iter=300)
        curve = make_pipeline(StandardScaler(), PolynomialFeatures(2), StandardScaler(), logistic)
        says[there] = curve.fit(known[here], more[here]).predict(asked[there])
    return torch.tensor(says)


def boosted_trees(
    fitted: CarrySample, sample: CarrySample, seed: int, rounds: int = 300
) -> Bool[Tensor, " batch"]:
    """What boosted trees say from the digits up to column k and the carry out.

    Args:
        rounds: so many trees.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    def digits(of: CarrySample) -> np.ndarray:
        pairs = [of.questions.x[:, : of.k + 1], of.questions.y[:, : of.k + 1]]
        return torch.cat([*pairs, of.out[:, None]], 1).numpy()

    if fitted.more.unique().numel() < 2:
        return fitted.more.any().expand(len(sample.more))
    trees = HistGradientBoostingClassifier(max_iter=rounds, random_state=seed)
    trees.fit(digits(fitted), fitted.more.numpy())
    return torch.tensor(trees.predict(digits(sample)))

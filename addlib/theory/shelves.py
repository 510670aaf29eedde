"""The shelves of loss curves: which stretch of a curve rests at the level of which knowledge.

A state of knowledge has an exact level (:mod:`addlib.theory.loss_levels`), and a curve has
stretches on which it rests (:mod:`addlib.theory.plateaus`). No predictor can undercut what it
knows, so a stretch belongs to the highest level that it does not undercut.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from addlib.tasks.addition import AdditionTask
from addlib.theory.loss_levels import Knowledge, expected_loss
from addlib.theory.plateaus import Plateau, plateaus

STATES = ("answer so far", "own pair", "next pair", "second pair", "third pair")
"""What is known of a sum, from little to much: each state knows all that those before it know."""

Shelves = dict[tuple[int, str], Plateau | None]
"""The shelf of digit A_k at each state's level, where there is one."""


def levels(task: AdditionTask, k: int) -> dict[str, float]:
    """Loss of A_k, nats, in each of `STATES` that it has; the top digit has no pair of its own."""
    pairs = {STATES[1 + j]: ("pair",) * j for j in range(min(k, 3) + 1)}
    known = {STATES[0]: Knowledge()}
    if k < task.n_digits:
        known |= {name: Knowledge("pair", below) for name, below in pairs.items()}
    else:
        known |= {name: Knowledge("none", below) for name, below in pairs.items() if below}
    return {name: expected_loss(task, k, state) for name, state in known.items()}


def shelves(loss: Float[np.ndarray, "steps n_answer"], task: AdditionTask) -> Shelves:
    """The shelf at each level of each digit, the lowest where a level has several.

    Args:
        loss: of each answer digit at each step, NaN where a batch was not uniform.
        task: whose levels they are.
    """
    found: Shelves = {}
    for k in range(task.n_answer):
        own = levels(task, k)
        rests = plateaus(loss[:, k])
        to = [max((v for v in own.values() if r.ci[1] >= v), default=0.0) for r in rests]
        for name, level in own.items():
            mine = [rest for rest, level_of in zip(rests, to, strict=True) if level_of == level]
            found[k, name] = min(mine, key=lambda rest: rest.level, default=None)
    return found


def tolerance(level: float) -> float:
    """How far from its level, nats, a shelf may lie and still agree: 0.02, or 3 % of the level."""
    return max(0.02, 0.03 * level)


def share_found(pairs: Iterable[tuple[Plateau | None, float]]) -> float:
    """Share of the predicted shelves that were found within the tolerance of their level.

    Args:
        pairs: a shelf, None where none was found (it counts as not there), and its level in nats.
    """
    return float(
        np.mean([rest is not None and abs(rest.level - at) <= tolerance(at) for rest, at in pairs])
    )

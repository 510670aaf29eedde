"""How many sums an observer of few columns can get right, exactly.

An observer of j pairs writes A_k from the digit's own pair and the j - 1 pairs below it. Where the
pairs below all sum to B - 1, and there are columns further down, it has to guess whether a carry
comes in. Nothing it sees bears on that: what lies further down is independent of it. So the best
observer always guesses the likelier case, no carry, since P(c_k = 1) = (1 - B^-k) / 2. The digits
written so far don't help either: they tell the carry into column k only where column k itself sums
to B - 1, and then a digit above it had to guess the same carry before.

An observer's answers are those of :func:`addlib.tasks.subtasks.look_back`. It gives a cascade and
its twin (:func:`addlib.tasks.sampling.carry_twins`) the same guess, so of such pairs it gets half
of the digits right whatever it guesses.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import pair_probabilities


def share_right(
    task: AdditionTask, below: int, guess: bool = False, at_top: int | None = None
) -> Fraction:
    """Exact share of uniform sums that an observer gets right in every digit.

    The columns form a Markov chain from the units up. Its state is the carry and the number of
    columns in a row, directly below, that sum to B - 1.

    Args:
        below: pairs that it sees below a digit's own, 0 or more.
        guess: whether it takes a carry for granted where it can't see one. False is the best.
        at_top: pairs that it sees for the top digit, which has none of its own: `below`, the
            default, or one more.

    Raises:
        ValueError: another number of pairs, or a task without carries or units first, where nothing
            has to be guessed.
    """
    at_top = below if at_top is None else at_top
    if below < 0 or at_top not in (below, below + 1):
        raise ValueError(
            f"below = {below}, at_top = {at_top}: must be 0 or more, and the same or one more"
        )
    if not task.carry or task.answer_order != "msd":
        raise ValueError(f"{task}: must have carries and be written from the top")
    p_nine, p_make = pair_probabilities(task)
    p_low = 1 - p_nine - p_make

    def kept(states: dict[tuple[bool, int], Fraction], k: int, seen: int) -> Fraction:
        """Probability that all digits so far are right, and so is the carry into column k."""
        right = (
            p for (carry, nines), p in states.items() if nines < seen or k <= seen or carry == guess
        )
        return sum(right, Fraction(0))

    states = {(False, 0): Fraction(1)}
    for k in range(task.n_digits):
        following: dict[tuple[bool, int], Fraction] = defaultdict(Fraction)
        for (carry, nines), p in states.items():
            following[carry, nines + 1] += p * p_nine
        right = kept(states, k, below)
        following[False, 0] += right * p_low
        following[True, 0] += right * p_make
        states = following
    return kept(states, task.n_digits, at_top)

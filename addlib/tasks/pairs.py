"""The toy task: one number plus another, ``a b =``, with every pair listed.

A number is one token here, so there are no digits and no carries: p numbers make p² pairs, few
enough to be written down whole. Token p is ``=``, and the answer is read there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from addlib.checks import check_choice, check_whole


@dataclass(frozen=True)
class PairTask:
    """Addition of two numbers below p, modulo p or as it is.

    Args:
        p: how many numbers there are, at least 2.
        modular: True answers (a + b) mod p, one of p; False answers a + b, one of 2p outputs (2p -
            1 is never right).

    Raises:
        ValueError: naming the argument, its value and the allowed range.
    """

    p: int = 10
    modular: bool = False

    def __post_init__(self) -> None:
        check_whole(self, 2, "p")
        check_choice(self, (True, False), "modular")

    @property
    def equals(self) -> int:
        """Token of ``=``."""
        return self.p

    @property
    def d_vocab(self) -> int:
        """Tokens that can be read: the numbers and ``=``."""
        return self.p + 1

    @property
    def n_ctx(self) -> int:
        """Tokens of a question: a, b and ``=``."""
        return 3

    @property
    def n_outputs(self) -> int:
        """Answers that can be given: p modulo p, 2p otherwise."""
        return self.p if self.modular else 2 * self.p

    def pairs(self) -> Int[Tensor, "p_squared 2"]:
        """All pairs (a, b); pair number a · p + b."""
        numbers = torch.arange(self.p)
        return torch.cartesian_prod(numbers, numbers)

    def tokens(self, pairs: Int[Tensor, "pairs 2"]) -> Int[Tensor, "pairs 3"]:
        """Questions as the model reads them: ``(3, 4) → [3, 4, p]``.

        Raises:
            ValueError: a number that is not one of 0 … p - 1; p itself would be read as ``=``.
        """
        if pairs.numel() and not 0 <= int(pairs.min()) <= int(pairs.max()) < self.p:
            raise ValueError(
                f"pairs hold {int(pairs.min())} to {int(pairs.max())}: must be from 0 to "
                f"{self.p - 1}"
            )
        return torch.cat([pairs, pairs.new_full((len(pairs), 1), self.equals)], 1)

    def answers(self, pairs: Int[Tensor, "pairs 2"]) -> Int[Tensor, " pairs"]:
        """Right answers: with p = 10, ``7 + 5 → 12``, or 2 modulo 10."""
        total = pairs.sum(-1)
        return total % self.p if self.modular else total


def split(
    task: PairTask, share: float, seed: int, unordered: bool = False
) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Numbers of the pairs to train on and of those held out, both in random order.

    The pairs are shuffled by a generator of their own, and the first ``share`` of them, rounded
    down, is for training.

    Args:
        unordered: shuffle pairs without their order, and put both orders of each on its side:
            (3, 7) is held out where (7, 3) is. Of these p (p + 1) / 2 pairs ``share`` is for
            training; a number with itself has one order.

    Raises:
        ValueError: a share that leaves one side empty.
    """
    a, b = task.pairs().T
    total = int((a <= b).sum()) if unordered else task.p**2
    count = int(share * total + 1e-9) if 0 < share < 1 else 0  # 0.29 · 100 is 28.999…
    if not 0 < count < total:
        raise ValueError(
            f"share = {share!r}: must be between 0 and 1 and leave pairs of p = {task.p} on both "
            f"sides"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    if not unordered:
        return order[:count], order[count:]
    first, second = task.pairs()[a <= b][order].T
    orders = torch.stack([first * task.p + second, second * task.p + first], 1)
    in_two = torch.stack([torch.ones_like(first, dtype=torch.bool), first != second], 1)
    return orders[:count][in_two[:count]], orders[count:][in_two[count:]]

"""A metric that measures nothing, kept to show its faults (chapter 16, "how to fool yourself").

It compares right answers with wrong ones that look like slips. All digits of all answers, and the
padding behind them, are read from one row of logits, which can know no order of digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.llm.prompts import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def slips(answer: int) -> list[str]:
    """Wrong answers that look like slips: ``42`` → 43, 41, 52, 32, 84, 21, 24, 53, 31.

    Off by 1 or 10; doubled, halved; digits reversed, sorted, rotated left and right; every digit
    one higher or lower. Each comes as often as ways lead to it.
    """
    digits = str(answer)
    texts = [str(answer + step) for step in (1, -1, 10, -10)]
    texts += [str(2 * answer), str(answer // 2)]
    texts += [digits[::-1], "".join(sorted(digits))]
    texts += [digits[1:] + digits[0], digits[-1] + digits[:-1]]
    for step in (1, -1):
        texts.append("".join(str((int(digit) + step) % 10) for digit in digits))
    return [text for text in texts if text != digits]


@dataclass(frozen=True)
class OneRowMetric:
    """Mean logit of a right answer's tokens minus that of its slips', all from one row of logits."""

    rows: list[Int[Tensor, "text token"]]  # of each prompt: the right answer, then its slips
    padding: int  # the token behind short answers

    @property
    def padding_share(self) -> float:
        """The share of the tokens compared that are padding."""
        return (torch.cat(self.rows) == self.padding).double().mean().item()

    @property
    def anagram_share(self) -> float:
        """The share of the slips that have the right answer's digits in another order."""
        same = [ids[1:].sort(1).values == ids[0].sort().values for ids in self.rows]
        return torch.cat(same).all(1).double().mean().item()

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, answers: Sequence[int]) -> OneRowMetric:
        """The metric of prompts with these answers, padded to one width with the end token."""
        texts = [[str(answer), *slips(answer)] for answer in answers]
        width = max(len(text) for of_prompt in texts for text in of_prompt)
        padding = tokenizer.eos_token_id
        rows = []
        for of_prompt in texts:
            ids = torch.full((len(of_prompt), width), padding)
            for row, text in zip(ids, of_prompt, strict=True):
                row[: len(text)] = encode(tokenizer, [text])[0]
            rows.append(ids)
        return cls(rows, padding)

    def weights(self, d_vocab: int, padded: bool = True) -> Float[Tensor, "batch d_vocab"]:
        """What the metric multiplies each token's logit by, prompt by prompt.

        Args:
            padded: compare the padding, too.
        """
        weights = torch.zeros(len(self.rows), d_vocab)
        for of_prompt, ids in zip(weights, self.rows, strict=True):
            counts = torch.stack([row.bincount(minlength=d_vocab) for row in ids]).float()
            if not padded:
                counts[:, self.padding] = 0
            means = counts / counts.sum(1, keepdim=True)
            of_prompt.copy_(means[0] - means[1:].mean(0))
        return weights

    def __call__(
        self, logits: Float[Tensor, "batch d_vocab"], padded: bool = True
    ) -> Float[Tensor, " batch"]:
        """The metric in nats, prompt by prompt; ``padded`` as of :meth:`weights`."""
        return (logits * self.weights(logits.shape[1], padded).to(logits.device)).sum(-1)

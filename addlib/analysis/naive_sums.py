"""What a model predicts for each answer digit, relative to what the columns sum to.

The naive sum of column k is s_k = (x_k + y_k) mod B, the digit without its carry; the top digit has
no pair, so its naive sum is 0. The true digit is always s_k or s_k + 1 mod B. So a prediction
splits into three questions: is its mass on these two candidates, how is it shared between them, and
where does the rest leak?
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from addlib.stats import answer_nll
from addlib.tasks.addition import Questions
from addlib.tasks.sampling import bucket_probabilities
from addlib.tasks.subtasks import base_sum, look_back


def leakage(
    p: Float[Tensor, "batch n_answer d_vocab"], questions: Questions
) -> Float[Tensor, "n_digits base"]:
    """Mean probability of s_k + r mod B, the naive sum and the digits after it, by column.

    Columns sum to the mass on digits: 1 less what lies on the two signs.
    """
    task = questions.task
    naive = base_sum(questions)[:, : task.n_digits, None]
    residues = torch.arange(task.base, device=naive.device)
    digits = (naive + residues) % task.base  # (batch, n_digits, r)
    return p[:, : task.n_digits].gather(2, digits).mean(0)


def candidates(
    p: Float[Tensor, "batch n_answer d_vocab"], questions: Questions
) -> dict[str, Float[Tensor, " n_answer"]]:
    """Mean probability, per answer column, of what simple algorithms would write.

    Returns:
        ``"naive"``: s_k; ``"naive + 1"``: s_k + 1 mod B; ``"1 deep"`` and ``"2 deep"``: the digit
        with the carry found from the next one and two pairs down (:func:`look_back`).
    """
    naive = base_sum(questions)
    digits = {
        "naive": naive,
        "naive + 1": (naive + 1) % questions.task.base,
        "1 deep": look_back(questions, 1),
        "2 deep": look_back(questions, 2),
    }
    return {name: p.gather(2, digit[:, :, None])[:, :, 0].mean(0) for name, digit in digits.items()}


def carry_log_odds(
    logits: Float[Tensor, "batch n_answer d_vocab"], questions: Questions
) -> Float[Tensor, "batch n_answer"]:
    """What a model bets on a carry into each column: ln p(s_k + 1) - ln p(s_k), in nats."""
    naive = base_sum(questions)[..., None]
    one_more = (naive + 1) % questions.task.base
    return (logits.gather(2, one_more) - logits.gather(2, naive))[..., 0]


def decompose(
    logits: Float[Tensor, "batch n_answer d_vocab"], questions: Questions, k: int
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The loss of A_k in two parts, nats per question, whose sum is -log p(true digit) exactly.

    Returns:
        ``outside`` = -log(mass on {s, s + 1}), what leaks to other tokens costs; ``within`` =
        -log(p(true) / that mass), the binary cross-entropy of the choice between the two
        candidates.
    """
    naive = base_sum(questions)[:, k, None]
    pair = torch.cat([naive, (naive + 1) % questions.task.base], 1)
    outside = -logits[:, k].double().log_softmax(-1).gather(1, pair).logsumexp(1)
    return outside, answer_nll(logits[:, k], questions.answer[:, k]) - outside


def excess(
    logits: Sequence[Float[Tensor, "batch n_answer d_vocab"]], questions: Questions, k: int
) -> dict[int, dict[str, float]]:
    """What A_k costs beyond the exact level of one who knows its pair, by the true carry into k.

    Args:
        logits: of one or several models on uniform questions; parts are means over all.

    Returns:
        carry (0 or 1) → ``"exact level"``, and three parts that add up to the loss with it, nats:
        ``"leak"``, mass on other tokens; ``"mean share"``, the mean choice between the two
        candidates; ``"scatter"``, that the choice varies from question to question.
    """
    both = [decompose(found, questions, k) for found in logits]
    outside, within = (torch.stack(part) for part in zip(*both, strict=True))
    p = float(sum(bucket_probabilities(questions.task)[k][1:]))
    rows = {}
    for carry in (0, 1):
        chosen = questions.carry[:, k] == bool(carry)
        share = -float((-within[:, chosen]).exp().mean().log())
        level = -math.log(p if carry else 1 - p)
        rows[carry] = {
            "exact level": level,
            "leak": outside[:, chosen].mean().item(),
            "mean share": share - level,
            "scatter": within[:, chosen].mean().item() - share,
        }
    return rows


def confusion(
    p: Float[Tensor, "batch n_answer d_vocab"], questions: Questions, k: int
) -> Float[Tensor, "base base"]:
    """Mean predicted distribution over the digits of A_k (columns) for each true digit (rows)."""
    base = questions.task.base
    member = F.one_hot(questions.answer[:, k], base).to(p)  # (batch, true)
    return member.T @ p[:, k, :base] / member.sum(0)[:, None]

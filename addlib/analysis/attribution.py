"""Direct logit attribution: what each head, neuron and embedding itself writes towards one digit
and against another.

The residual stream is a sum of what the components write, and the unembedding is linear. So a
difference of two logits is a sum over components, once the final LayerNorm's divisor is taken as
given (Elhage et al. 2021). What a component makes *later* components do is not in it.

The arithmetic is TransformerLens's own, `transformer_lens.tools.analysis.direct_logit_attribution`.
It wants the gain and bias of LayerNorm folded into the matrices that follow, and refuses a model
where they are not: :func:`folded` makes such a copy.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from addlib.models.addition import answer_logits
from addlib.tasks.addition import Questions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Attribution:
    """Logit differences, right digit minus wrong one, and their parts. Units: logits, which are
    nats.
    """

    labels: list[
        str
    ]  # "L0H0" …, "embed", "pos_embed", "0_mlp_out" …, "attention bias", "unembedding bias"
    parts: Float[Tensor, "component batch n_answer"]
    difference: Float[Tensor, "batch n_answer"]  # of the logits that an ordinary forward gives

    @property
    def error(self) -> float:
        """Largest distance between a logit difference and the sum of its parts."""
        return (self.parts.sum(0) - self.difference).abs().max().item()

    def part(self, label: str) -> Float[Tensor, "batch n_answer"]:
        """What one component adds. Raises ValueError for a label that is not there."""
        return self.parts[self.labels.index(label)]


def folded(model: TransformerBridge) -> TransformerBridge:
    """A copy with the same log-probabilities whose LayerNorms have no gain and no bias of their
    own.

    TransformerLens's compatibility mode folds them into the next matrices and centres what is
    written to the residual stream; biases of the values move to the attention's output bias. The
    model itself stays as it is.
    """
    twin = copy.deepcopy(model).eval()
    twin.enable_compatibility_mode()
    return twin


@torch.no_grad()
def attribute(
    twin: TransformerBridge, questions: Questions, wrong: Int[Tensor, "batch n_answer"]
) -> Attribution:
    """Split the logit difference between the right digit and a wrong one, for every answer digit.

    Args:
        twin: from :func:`folded`.
        questions: all of them pass through the model at once, so some hundreds.
        wrong: a counterfactual digit for each answer digit, by column.

    Raises:
        ValueError: a ``wrong`` of another shape, or a model that is not folded.
    """
    from transformer_lens.tools.analysis import direct_logit_attribution

    right, other, where = _in_reading_order(questions, wrong)
    _, cache = twin.run_with_cache(questions.tokens.to(twin.W_U.device))
    labels: list[str] = []
    stacks: list[Tensor] = []
    for unit in ("head", "component"):
        result = direct_logit_attribution(
            twin, cache=cache, answer_tokens=right, incorrect_tokens=other, unit=unit, pos=where
        )
        keep = [i for i, name in enumerate(result.labels) if name != "remainder"]
        labels += [result.labels[i] for i in keep]
        stacks.append(result.attribution[keep])
    parts = torch.cat(stacks)
    attention = torch.tensor([name.endswith("attn_out") for name in labels], device=parts.device)
    # Attention's output is what its heads write and a bias; only the bias is kept beside the heads.
    bias = parts[attention].sum(0) - parts[: twin.cfg.n_layers * twin.cfg.n_heads].sum(0)
    constant = twin.b_U[right] - twin.b_U[other]
    parts = torch.cat([parts[~attention], bias[None], constant[None]])
    labels = [name for name in labels if not name.endswith("attn_out")] + [
        "attention bias",
        "unembedding bias",
    ]
    logits = answer_logits(twin, questions.task, questions.tokens.to(twin.W_U.device)).cpu()
    difference = (
        logits.gather(-1, questions.answer[..., None]) - logits.gather(-1, wrong[..., None])
    )[..., 0]
    return Attribution(labels, questions.task.by_column(parts.cpu(), -1), difference)


@torch.no_grad()
def attribute_neurons(
    twin: TransformerBridge,
    questions: Questions,
    wrong: Int[Tensor, "batch n_answer"],
    layer: int = 0,
) -> Float[Tensor, "d_mlp batch n_answer"]:
    """What each MLP neuron of a layer adds to those logit differences; without the MLP's output
    bias.

    Raises:
        ValueError: as :func:`attribute`.
    """
    right, other, (start, stop) = _in_reading_order(questions, wrong)
    names = [f"blocks.{layer}.mlp.hook_post", "ln_final.hook_scale"]
    _, cache = twin.run_with_cache(questions.tokens.to(twin.W_U.device), names_filter=names)
    active = (
        cache[names[0]][:, start:stop] / cache[names[1]][:, start:stop]
    )  # (batch, n_answer, d_mlp)
    written = (twin.blocks[layer].mlp.W_out @ twin.W_U).T  # (d_vocab, d_mlp)
    parts = active * (written[right] - written[other])
    return questions.task.by_column(parts.movedim(-1, 0).cpu(), -1)


def _in_reading_order(
    questions: Questions, wrong: Tensor
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Right and wrong digits in the order of the answer positions, and these positions."""
    if wrong.shape != questions.answer.shape:
        raise ValueError(
            f"wrong has shape {tuple(wrong.shape)}: must be {tuple(questions.answer.shape)}"
        )
    where = questions.task.answer_positions
    order = questions.task.answer_columns
    return questions.answer[:, order], wrong[:, order], (where.start, where.stop)

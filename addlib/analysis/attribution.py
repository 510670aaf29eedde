"""Direct logit attribution: what each component itself writes towards one digit, against another.

The residual stream is a sum of what heads, neurons and embeddings write, and the unembedding is
linear. So a difference of two logits is a sum over components, once the final LayerNorm's divisor
is taken as given (Elhage et al. 2021). What a component makes *later* components do is not in it.

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
    """Logit differences, right digit minus wrong one, and their parts, in nats."""

    labels: list[str]  # "L0H0" …, "embed", "pos_embed", "0_mlp_out" …, the two biases
    parts: Float[Tensor, "component batch n_answer"]
    difference: Float[Tensor, "batch n_answer"]  # of the logits that an ordinary forward gives

    def part(self, label: str) -> Float[Tensor, "batch n_answer"]:
        """What one component adds. Raises ValueError for a label that is not there."""
        return self.parts[self.labels.index(label)]


def folded(model: TransformerBridge) -> TransformerBridge:
    """A copy with the same log-probabilities whose LayerNorms have no gain and bias of their own.

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

    The parts are on the CPU, as the questions and digits must be.

    Args:
        twin: from :func:`folded`.
        questions: all of them pass through the model at once, so some hundreds.
        wrong: a counterfactual digit for each answer digit, by column.

    Raises:
        ValueError: a model that is not folded.
    """
    from transformer_lens.tools.analysis import direct_logit_attribution

    task = questions.task
    tokens = questions.tokens.to(twin.W_U.device)
    right_digits, wrong_digits = (d[:, task.answer_columns] for d in (questions.answer, wrong))
    _, cache = twin.run_with_cache(tokens)
    parts: dict[str, Tensor] = {}
    for unit in ("head", "component"):
        result = direct_logit_attribution(
            twin,
            cache=cache,
            answer_tokens=right_digits,
            incorrect_tokens=wrong_digits,
            unit=unit,
            pos=(task.answer_positions.start, task.answer_positions.stop),
        )
        parts |= zip(result.labels, result.attribution, strict=True)
    parts.pop("remainder", None)
    # Attention's output is what its heads write and a bias; only the bias is kept beside the heads.
    heads = torch.stack([part for label, part in parts.items() if label.startswith("L")])
    outputs = [parts.pop(label) for label in list(parts) if label.endswith("attn_out")]
    parts["attention bias"] = torch.stack(outputs).sum(0) - heads.sum(0)
    parts["unembedding bias"] = twin.b_U[right_digits] - twin.b_U[wrong_digits]
    logits = answer_logits(twin, task, tokens).cpu()
    difference = logits.gather(-1, questions.answer[..., None]) - logits.gather(
        -1, wrong[..., None]
    )
    stacked = torch.stack(list(parts.values())).cpu()
    return Attribution(list(parts), task.by_column(stacked, -1), difference[..., 0])


@torch.no_grad()
def attribute_neurons(
    twin: TransformerBridge,
    questions: Questions,
    wrong: Int[Tensor, "batch n_answer"],
    layer: int = 0,
) -> Float[Tensor, "d_mlp batch n_answer"]:
    """What each MLP neuron of a layer adds to those differences; without the output bias.

    The result is on the CPU.
    """
    task = questions.task
    right_digits, wrong_digits = (d[:, task.answer_columns] for d in (questions.answer, wrong))
    post, scale = f"blocks.{layer}.mlp.hook_post", "ln_final.hook_scale"
    _, cache = twin.run_with_cache(questions.tokens.to(twin.W_U.device), names_filter=[post, scale])
    at = slice(task.answer_positions.start, task.answer_positions.stop)
    active = cache[post][:, at] / cache[scale][:, at]  # (batch, n_answer, d_mlp)
    written = (twin.blocks[layer].mlp.W_out @ twin.W_U).T  # (d_vocab, d_mlp)
    parts = active * (written[right_digits] - written[wrong_digits])
    return task.by_column(parts.movedim(-1, 0).cpu(), -1)

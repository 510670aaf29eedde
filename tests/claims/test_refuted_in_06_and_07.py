"""Claims that can fail: what `refuted_by` says of them is made to happen, and they do fail."""

from __future__ import annotations

import pytest
import torch

from addlib.analysis.ablation import Ablation, hooks, past_and_through_mlp
from addlib.analysis.roles import answer_patterns, heads_at
from addlib.claims import stored
from addlib.models.addition import ModelConfig, answer_logits, build_model
from addlib.models.bridge import weights
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import carry_twins, uniform_questions
from addlib.tasks.subtasks import look_back
from verdicts import verdict

TASK = AdditionTask(3)


def test_a_second_head_that_brings_in_the_own_pair_keeps_some_questions_right():
    variants = stored.read("variants")["variants"]
    left = {}
    for name in ("full", "reduced"):
        heads = [head for head in variants[name]["heads"] if head["role"] == "base add"]
        left[name, len(heads)] = max(max(head["accuracy_without"].values()) for head in heads)
    assert verdict("06.base-add-breaks-everything", left["full", 1]) == "holds"
    assert verdict("06.base-add-breaks-everything", left["reduced", 2]) == "fails"


def test_a_message_past_the_mlp_is_not_restored_through_it():
    """With an MLP that writes nothing, all that a head says goes past it."""
    model = build_model(ModelConfig(width=24), TASK, seed=1)
    with torch.no_grad():
        for name, p in weights(model).items():
            p.mul_(0 if ".mlp.out." in name else 2)
    clean, twin = carry_twins(TASK, 2, 1, 20, torch.Generator().manual_seed(1))
    patch = [Ablation("z", 0, method="swap")]

    def gap(asked, edits):
        with torch.no_grad(), model.hooks(fwd_hooks=edits):
            logits = answer_logits(model, TASK, asked.tokens)
        rows = torch.arange(20)
        return (logits[rows, 2, clean.answer[:, 2]] - logits[rows, 2, twin.answer[:, 2]]).mean()

    without = gap(twin, [])
    by_head = gap(twin, hooks(model, patch, clean)) - without
    past, through = (
        (gap(twin, edits) - without) / by_head
        for edits in past_and_through_mlp(model, patch, twin, clean)
    )
    assert past == pytest.approx(1, abs=1e-4)
    assert verdict("06.carries-pass-the-mlp", through.item()) == "fails"


@pytest.mark.parametrize("id", ["06.next-pair-path", "06.second-pair-path"])
def test_a_model_in_which_no_head_looks_at_a_pair_restores_nothing(id):
    """Untrained heads look everywhere and nowhere."""
    model = build_model(ModelConfig(width=24), TASK, seed=1)
    asked = uniform_questions(TASK, 50, torch.Generator().manual_seed(1))
    pattern = answer_patterns(model, asked).mean(0)
    assert heads_at(pattern, TASK, -1) == heads_at(pattern, TASK, -2) == [None] * TASK.n_answer
    assert verdict(id, 0.0) == "fails"


def test_a_model_that_sees_no_second_pair_takes_one_side_of_every_cascade():
    """It ignores all carries that are handed on, whatever stands in a far carry head's place."""
    asked = uniform_questions(TASK, 2000, torch.Generator().manual_seed(1))
    handed_on = torch.nn.functional.pad(asked.us9, (1, 0))
    ignored = (look_back(asked, 1) != asked.answer)[handed_on].float().mean()
    assert verdict("07.us9-guessed-without-far-carry", ignored.item()) == "fails"

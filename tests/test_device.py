"""Where work runs, and that it goes on in smaller batches where memory is short."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from addlib.analysis import answers
from addlib.analysis.activations import activations
from addlib.device import choose_device, in_batches, with_smaller_batches
from addlib.models.addition import ModelConfig, build_model
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import uniform_questions
from addlib.training import addition
from addlib.training.addition import TrainConfig, Trainer
from addlib.training.runs import load_or_train

TINY = TrainConfig(
    task=AdditionTask(2), model=ModelConfig(width=12), steps=30, snapshot_every=10, batch_size=16
)


def test_without_a_gpu_everything_runs_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ValueError, match=r"this machine has 0 CUDA devices; use 'auto' or 'cpu'"):
        choose_device("cuda")


# -------------------------------------------------------------- GPU out of memory
class SmallGpu:
    """Stands before a function of a batch: a GPU with memory for so many rows, and not one more."""

    def __init__(self, rows, work):
        self.rows, self.work, self.sizes = rows, work, []

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.rows:
            raise torch.OutOfMemoryError(f"CUDA out of memory with {len(batch)} rows")
        return self.work(batch)


def test_answers_come_in_smaller_batches_and_are_the_same(monkeypatch, capsys):
    model = TINY.build()
    questions = uniform_questions(TINY.task, 100, torch.Generator().manual_seed(1))
    whole = answers.answer(model, questions, batch_size=64)
    gpus, forward = [], answers.FastForward

    def small(*arguments):
        gpus.append(SmallGpu(20, forward(*arguments)))
        return gpus[-1]

    monkeypatch.setattr(answers, "FastForward", small)
    parts = answers.answer(model, questions, batch_size=64)
    assert gpus[0].sizes == [64, 32, 16, 16, 16, 16, 16, 16, 4]
    assert torch.equal(parts.digits, whole.digits)
    assert torch.allclose(parts.nll, whole.nll, atol=1e-5)
    assert capsys.readouterr().out.splitlines() == [
        "Out of memory with 64 questions at once; going on with 32.",
        "Out of memory with 32 questions at once; going on with 16.",
    ]


def test_activations_come_in_smaller_batches_and_are_the_same(monkeypatch, capsys):
    model = build_model(TINY.model, TINY.task, seed=1)
    questions = uniform_questions(TINY.task, 30, torch.Generator().manual_seed(1))
    whole = activations(model, "blocks.0.hook_resid_post", questions)
    run = model.run_with_cache

    def small(tokens, **options):
        if len(tokens) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(tokens, **options)

    monkeypatch.setattr(model, "run_with_cache", small)
    assert torch.allclose(
        activations(model, "blocks.0.hook_resid_post", questions), whole, atol=1e-5
    )
    assert "going on with 7." in capsys.readouterr().out


def test_training_takes_its_batch_in_parts_with_the_same_gradients(capsys):
    whole, parts = (Trainer(TINY, "cpu") for _ in range(2))
    parts.forward = gpu = SmallGpu(5, parts.forward)
    for trainer in (whole, parts):
        for _ in range(3):
            trainer.train_step()
    assert gpu.sizes == [16, 8, *[4] * 12]
    assert "Out of memory with 16 questions at once; going on with 8." in capsys.readouterr().out
    assert torch.allclose(parts.history.loss[:3], whole.history.loss[:3], atol=1e-6)
    assert torch.allclose(parts.history.grad_norm[:3], whole.history.grad_norm[:3], rtol=1e-4)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_every_kind_of_missing_memory_makes_the_batch_smaller(error, capsys):
    def work(size):
        if size > 2:
            raise error
        return f"done with {size}"

    assert with_smaller_batches(work, 8, "cell") == ("done with 2", 2)
    assert capsys.readouterr().out.splitlines() == [
        "Out of memory with 8 cells at once; going on with 4.",
        "Out of memory with 4 cells at once; going on with 2.",
    ]


def test_another_error_is_not_tried_again():
    sizes = []

    def work(size):
        sizes.append(size)
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        with_smaller_batches(work, 8)
    assert sizes == [8]


def test_no_memory_for_one_question_is_an_error_that_says_what_to_do(cache, monkeypatch):
    with pytest.raises(
        torch.OutOfMemoryError, match=r'no memory for a single question: .*device = "cpu"'
    ):
        in_batches(lambda rows: SmallGpu(0, len)(range(8)[rows]), 8, 4)

    def full(self, questions, share):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(addition.Trainer, "_part", full)
    with pytest.raises(
        torch.OutOfMemoryError,
        match=r"no memory to train add-n2.*goes on from its last saved step",
    ):
        load_or_train(replace(TINY, seed=5), "cpu", progress=False)

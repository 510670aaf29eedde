"""Where work runs, and that it goes on in smaller batches where memory is short."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from addlib.analysis import answers
from addlib.analysis.activations import activations
from addlib.device import (
    choose_device,
    device_name,
    hardware,
    in_batches,
    memory_for,
    say_once,
    undo_if_tried_again,
    with_smaller_batches,
)
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
    with pytest.raises(ValueError, match=r"CUDA devices here: 0; use 'auto' or 'cpu'"):
        choose_device("cuda")


TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to install"
)


@pytest.fixture
def unusable_gpu(monkeypatch):
    """One GPU that the system counts and torch can't compute on."""
    ones = torch.ones

    def refuse(*size, device=None, **options):
        if torch.device(device or "cpu").type == "cuda":
            raise RuntimeError(TOO_OLD)
        return ones(*size, device=device, **options)

    monkeypatch.setattr(torch, "ones", refuse)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_a_gpu_whose_driver_is_too_old_is_refused_in_a_sentence(unusable_gpu):
    with pytest.raises(
        ValueError,
        match=r"^device = 'cuda' can't be used: The NVIDIA driver on your system is too old \(found "
        r"version 11040\); update its driver, see what else runs there, or use 'cpu'$",
    ):
        choose_device("cuda")
    with pytest.raises(ValueError, match="CUDA devices here: 1"):
        choose_device("cuda:3")


def test_auto_says_once_why_it_takes_the_cpu_instead_of_a_gpu(unusable_gpu, capsys):
    say_once.cache_clear()
    assert choose_device("auto").type == "cpu"
    assert choose_device("auto").type == "cpu"
    assert capsys.readouterr().out == (
        "Running on the CPU, for the GPU can't be used: The NVIDIA driver on your system is too "
        "old (found version 11040).\n"
    )


def test_auto_has_nothing_to_say_where_there_is_no_gpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto").type == "cpu"
    assert capsys.readouterr().out == ""


def test_apples_gpu_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"'mps': TransformerLens gives wrong numbers .*1008"):
        choose_device("mps")


def test_hardware_is_that_of_the_device_which_was_used(monkeypatch):
    names = {0: "GPU Zero", 1: "GPU One"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device.index or 0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert hardware(torch.device("cuda:1")) == device_name(torch.device("cuda:1")) == "GPU One"
    assert hardware(torch.device("cuda")) == "GPU Zero"
    assert hardware(torch.device("cpu")).endswith(" cores")
    assert device_name(torch.device("cpu")) == "cpu"


# ------------------------------------------------------------- true float32 products
SETTINGS = ("ieee", "ieee", False, "highest")
"""Of true float32: the newer settings for GPU and CPU, and both older ones."""


def settings():
    return (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.backends.cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision(),
    )


def allow_tf32():
    torch.backends.cuda.matmul.allow_tf32 = True


def ask_for_tf32():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


@pytest.mark.parametrize(
    "switch_on",
    [
        partial(torch.set_float32_matmul_precision, "high"),
        partial(torch.set_float32_matmul_precision, "medium"),
        allow_tf32,
        ask_for_tf32,
    ],
)
def test_tf32_is_off_where_a_device_was_chosen(switch_on):
    switch_on()
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    choose_device("cpu")
    assert settings() == SETTINGS


def test_a_containers_override_is_undone():
    code = """
import torch
from addlib.device import choose_device
print(torch.backends.cuda.matmul.fp32_precision)
choose_device()
print(torch.backends.cuda.matmul.fp32_precision)
"""
    environment = os.environ | {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "tf32\nieee\n"


def test_a_line_says_where_tf32_cannot_be_switched_off(monkeypatch, capsys):
    say_once.cache_clear()
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    choose_device("cpu")
    choose_device("cpu")
    (line,) = capsys.readouterr().out.splitlines()
    assert "unset NVIDIA_TF32_OVERRIDE" in line


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
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(
            "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnSgesvd`"
        ),
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


def test_one_sentence_says_that_work_without_batches_has_no_memory():
    @memory_for("a whole sweep")
    def work(error):
        with memory_for("a single cell"):
            raise error

    with pytest.raises(
        torch.OutOfMemoryError,
        match=r'^there is no memory for a single cell: end other programs .* device = "cpu" .*'
        r"\(CUDA out of memory\)$",
    ):
        work(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError, match=r"^shapes$"):
        work(RuntimeError("shapes"))


def test_what_moved_on_in_a_failed_try_is_put_back_in_nested_work_too():
    seen = []
    count = 0

    def put_back(to):
        nonlocal count
        count = to

    def step(size):
        nonlocal count
        undo_if_tried_again(partial(put_back, count))
        count += size
        seen.append((size, count))
        if size > 4:
            raise MemoryError
        return size

    def two_steps(size):
        for _ in range(2):
            with_smaller_batches(step, size)
        if len(seen) < 5:
            raise MemoryError
        return "done"

    assert with_smaller_batches(two_steps, 8) == ("done", 4)
    assert seen == [(8, 8), (4, 4), (8, 12), (4, 8), (4, 4), (4, 8)]
    step(1)  # outside such work there is nothing to take back
    assert count == 9


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

    def full(self, questions, weight):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(addition.Trainer, "_micro_batch", full)
    with pytest.raises(
        torch.OutOfMemoryError,
        match=r"no memory for a single question: .*add-n2\S+ then continues from its last saved",
    ):
        load_or_train(replace(TINY, seed=5), "cpu", progress=False)

"""Timings: each device has its own row, and a GPU is waited for before the clock is read."""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from addlib.analysis.answers import READOUT_FROM
from addlib.models.addition import ModelConfig
from addlib.tasks.addition import AdditionTask
from addlib.training.addition import TrainConfig
from workflow.chapters import ROOT

TINY = TrainConfig(task=AdditionTask(2), model=ModelConfig(width=12))


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """The scripts, as if they had measured on a CPU and on a GPU before; and their file of results."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import answers
    import precision
    import rows

    file = tmp_path / "results.json"
    old = {
        f"{name}_{device}": "old" for name in ("answers", "precision") for device in ("cpu", "cuda")
    }
    file.write_text(json.dumps(old))
    monkeypatch.setattr(rows, "RESULTS", file)
    yield SimpleNamespace(
        answers=answers, precision=precision, read=lambda: json.loads(file.read_text())
    )
    for name in ("answers", "precision", "rows", "train_step"):
        sys.modules.pop(name, None)


def test_a_run_on_the_cpu_leaves_the_gpus_rows(rows, monkeypatch):
    model = TINY.build()
    run = SimpleNamespace(model=model, config=TINY, device=torch.device("cpu"))
    monkeypatch.setattr(rows.answers, "load_or_train", lambda device: run)
    monkeypatch.setattr(rows.answers, "REPEATS", 1)
    monkeypatch.setattr(rows.answers, "MANY", READOUT_FROM)
    rows.answers.main()
    assert rows.read()["answers_cpu"]["device"] == "cpu"
    assert rows.read()["answers_cuda"] == "old"


def test_each_device_is_measured_where_there_is_a_gpu(rows, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for script in (rows.answers, rows.precision):
        monkeypatch.setattr(script, "measure", lambda name: f"new, of {name}")
        script.main()
    for row in ("answers", "precision"):
        assert rows.read()[f"{row}_cpu"] == "new, of cpu"
        assert rows.read()[f"{row}_cuda"] == "new, of cuda"


def test_a_gpu_is_waited_for_before_the_clock_is_read(rows, monkeypatch):
    events = []

    def clock():
        events.append("clock")
        return float(len(events))

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append("wait"))
    monkeypatch.setattr(time, "perf_counter", clock)
    rows.answers.seconds(lambda: events.append("call"), 1, torch.device("cuda"))
    assert events == ["wait", "clock", "call", "wait", "clock"]

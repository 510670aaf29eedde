"""The worked cases of the page "Use it on your model", as smoke runs of their chapters."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from addlib.geometry import fourier
from addlib.models.addition import ModelConfig
from addlib.models.state_dicts import read_state_dict
from addlib.notebook import own_model
from addlib.tasks.addition import AdditionTask
from addlib.training.addition import TrainConfig
from addlib.training.runs import load_or_train
from workflow.chapters import ROOT, chapters

FIXTURES = ROOT / "tests" / "compat" / "fixtures"

TAKE_A_MODEL = [
    name
    for name, chapter in chapters().items()
    if "weights_file" in chapter.notebook.read_text(encoding="utf-8")
]

WITHOUT_CLAIMS = ("14", "17")
"""Chapters that look and claim nothing."""

pytestmark = pytest.mark.timeout(1800)


def run(chapter: str, weights_file: Path, results: Path, *more: str):
    """The executed chapter, its records by id, and what it left out by the cells' first lines."""
    command = [sys.executable, "-m", "workflow.execute", chapter, "--smoke"]
    command += ["-p", "weights_file", str(weights_file), *more]
    environment = {**os.environ, "ADDLIB_RESULTS": str(results), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # the book's own results are untouched
    assert not (results / "claims").exists()
    assert not (results / "executed").exists()
    (folder,) = results.glob("*/models/*")
    notebook = nbformat.read(folder / "executed" / f"{chapter}.ipynb", as_version=4)
    records = {path.stem: json.loads(path.read_text()) for path in folder.glob("claims/*/*.json")}
    assert bool(records) == (chapter[:2] not in WITHOUT_CLAIMS)
    shown = {
        cell.source.strip().splitlines()[0]: output.data["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    }
    left_out = {line: text for line, text in shown.items() if text.startswith("Left out")}
    return "\n".join(shown.values()), records, left_out


@pytest.mark.depends_on("notebooks/05_attention_staircases.ipynb", "tests/compat/**/*")
def test_a_state_dict_goes_through_chapter_05(cache, tmp_path):
    """Written by TransformerLens 2: two digits in base 6, two heads."""
    text, records, left_out = run(
        "05_attention_staircases", FIXTURES / "addition.pth", tmp_path / "results"
    )
    assert re.search(r"`addition.pth` \(SHA-256 `\w{12}`\): 1 layer, 2 heads of width 10", text)
    assert "100.0% of 1,000 random 2-digit sums in base 6 right" in text
    assert {record["seed"] for record in records.values()} == {None}
    # the exercise on training; what two digits have no room for
    assert all(
        "nothing of its training" in reason or "Error" in reason for reason in left_out.values()
    )
    assert len(left_out) <= 6


@pytest.mark.depends_on("notebooks/04_us9_cascades.ipynb", "addlib/training/opened.py")
def test_a_runs_folder_goes_through_chapter_04_with_its_history(cache, tmp_path):
    config = TrainConfig(
        AdditionTask(4), ModelConfig(n_heads=4, width=48), steps=200, snapshot_every=100
    )
    load_or_train(config, "cpu", progress=False)
    text, records, left_out = run("04_us9_cascades", config.folder.path, tmp_path / "results")
    assert "a run of this book's code, 200 steps" in text
    assert not left_out
    assert len(records) > 3


@pytest.mark.depends_on("notebooks/11_grokking.ipynb", "tests/compat/**/*")
def test_a_modular_model_goes_through_chapter_11(cache, tmp_path):
    """Written by TransformerLens 2: sums modulo 11. Its own waves are found, its training is not."""
    text, records, left_out = run("11_grokking", FIXTURES / "grokking.pth", tmp_path / "results")
    assert "100.0% of 121 sums modulo 11 right" in text
    state = read_state_dict(FIXTURES / "grokking.pth").weights
    own = fourier.key_frequencies(
        (state["unembed.weight"] @ state["blocks.0.mlp.out.weight"]).double(), least=0.01
    )
    assert records["11.few-frequencies"]["value"] == len(own) > 0
    assert f"At frequencies {', '.join(map(str, sorted(own)))} are " in text
    assert any("history" in line for line in left_out)
    assert set(left_out.values()) == {
        "Left out: the file holds one state of the model and nothing of its training."
    }


@pytest.mark.depends_on("notebooks/17_modular_looks.ipynb", "tests/compat/**/*")
def test_a_modular_model_goes_through_chapter_17(cache, tmp_path):
    """Nothing was asked to be measured there; what is left out is its training."""
    text, _, left_out = run("17_modular_looks", FIXTURES / "grokking.pth", tmp_path / "results")
    assert "100.0% of 121 sums modulo 11 right" in text
    assert set(left_out.values()) == {
        "Left out: the file holds one state of the model and nothing of its training."
    }


def test_a_chapter_refuses_a_model_that_answers_something_else():
    with pytest.raises(ValueError, match="holds a model that answers sums modulo p, and this"):
        own_model(str(FIXTURES / "grokking.pth"), 1)
    assert own_model("", 1) is None


@pytest.mark.parametrize("name", TAKE_A_MODEL)
def test_a_chapter_that_takes_a_model_keeps_its_records_apart(name):
    cells = nbformat.read(chapters()[name].notebook, as_version=4).cells
    source = "\n".join(cell.source for cell in cells)
    ledgers = re.findall(r"claims = Ledger(?:\.of)?\((.*?)\s*\)\n", source, re.DOTALL)
    assert len(ledgers) == (name[:2] not in WITHOUT_CLAIMS)
    for ledger in ledgers:
        assert re.search(r", run$|, file$", ledger)
    assert "given = own_model(weights_file, seed" in source


def test_the_chapters_on_one_model_take_somebody_elses():
    numbers = ["04", "05", "06", "07", "08", "09", "10", "11", "14", "17"]
    assert [name[:2] for name in TAKE_A_MODEL] == numbers

"""Sweeps: every combination is a cell, bad grids are refused, only missing cells run again."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from addlib.claims import stored
from colours import contrast
from runs import run_script
from throwaway_book import CLAIM_CELL, Book
from workflow.chapters import ROOT, WorkflowError
from workflow.sweep import grid
from workflow.sweep.figure import VERDICT_COLOURS, verdict_map

pytestmark = pytest.mark.depends_on("workflow/**/*")


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def grid_of(folder: Path, **content: object) -> Path:
    path = folder / "grid.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_every_combination_is_a_cell_and_its_name_tells_what_varies(tmp_path):
    lists = {"seed": [1, 2], "sample": [2000, 3000], "base": 10}
    cells, record = grid.read_grid(
        grid_of(tmp_path, cells=[{"chapter": "01_setup", "parameters": lists}])
    )
    assert record is None
    assert list(cells) == [
        f"01_setup_seed-{seed}_sample-{sample}" for seed in (1, 2) for sample in (2000, 3000)
    ]
    assert cells["01_setup_seed-2_sample-3000"]["parameters"] == {
        "seed": 2,
        "sample": 3000,
        "base": 10,
    }


def test_the_books_own_grid_is_sound():
    cells, record = grid.read_grid(ROOT / "workflow" / "sweep" / "grids" / "seeds.yml")
    assert record == "seeds"
    assert len({entry["parameters"]["seed"] for entry in cells.values()}) >= 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "a grid has a list 'cells'"),
        ({"cells": [], "seeds": [1]}, "a grid has a list 'cells'"),
        ({"cells": []}, "the grid has no cells"),
        (
            {"cells": [{"chapter": "01_setup", "parameters": ["seed"]}]},
            "'parameters' must be names",
        ),
        (
            {"cells": [{"chapter": "01_setup", "parameters": {"seed": n}} for n in (1, 2)]},
            "two cells are called 01_setup",
        ),
        ({"cells": [{"chapter": "01_setup"}]}, "must have 'chapter' and 'parameters'"),
        ({"cells": [{"chapter": "1_setup", "parameters": {}}]}, "no chapter '1_setup'"),
        ({"cells": [{"chapter": "01_setup", "parameters": {"sed": [1]}}]}, "Did you mean 'seed'"),
        ({"cells": [{"chapter": "01_setup", "parameters": {"seed": [-1]}}]}, "out of range"),
    ],
)
def test_bad_grids_are_refused_before_anything_runs(tmp_path, content, message):
    with pytest.raises(WorkflowError, match=message):
        grid.read_grid(grid_of(tmp_path, **content))
    done = run_script(
        "-m", "workflow.sweep.grid", tmp_path / "grid.yml", ADDLIB_RESULTS=str(tmp_path / "results")
    )
    assert done.returncode == 2
    assert not (tmp_path / "results").exists()


def test_values_that_yaml_takes_for_texts_are_numbers(tmp_path):
    cells, _ = grid.read_grid(
        grid_of(tmp_path, cells=[{"chapter": "02_training", "parameters": {"lr": ["1e-4"]}}])
    )
    assert cells["02_training"] == {
        "chapter": "02_training",
        "run": "the only run",
        "parameters": {"lr": 1e-4},
    }


@pytest.mark.parametrize("name", ["local", "slurm"])
def test_profiles_are_found_by_name_and_by_folder(name):
    folder = ROOT / "workflow" / "profiles" / name
    if name == "slurm":
        pytest.importorskip(
            "snakemake_executor_plugin_slurm", reason="an environment made before the plugin's pin"
        )
    assert grid.profile_folder(name) == grid.profile_folder(str(folder)) == folder


def test_profiles_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(
        WorkflowError, match="no profile 'slrum'; profiles: kubernetes, local, slurm, or the path"
    ):
        grid.profile_folder("slrum")
    (tmp_path / "config.yaml").write_text("executor: moon-base\n")
    with pytest.raises(
        WorkflowError,
        match=r"package that is not there: .*pip install snakemake-executor-plugin-moon-base",
    ):
        grid.profile_folder(str(tmp_path))


def test_a_failing_cell_stops_nothing_and_alone_runs_again(book):
    """Four cells; one fails until a file is there. Then a sweep with nothing to do."""
    claim = CLAIM_CELL.replace("seed=None", "seed=seed")
    switch = book.root / "switch"
    fault = f"import pathlib\nassert (steps, seed) != (11, 2) or pathlib.Path({str(switch)!r}).exists(), 'not yet'"
    book.chapter("01_first", claim, fault)
    path = book.root / "notebooks" / "01_first.ipynb"
    path.write_text(path.read_text().replace("1 to 100", "1 to 100\\nseed = 1  # 0 or more"))
    grid_file = grid_of(
        book.root,
        cells=[{"chapter": "01_first", "parameters": {"steps": [10, 11], "seed": [1, 2]}}],
    )

    failed = book.run("-m", "workflow.sweep.grid", str(grid_file))
    assert failed.status == 1
    assert (
        "01_first_steps-11_seed-2: 01_first failed in cell 4 (`import pathlib`): AssertionError: "
        "not yet" in failed.text
    )
    assert failed.lines[-1] == "The sweep is not complete; run it again to run what is missing."
    folder = book.results.folder / "sweeps" / "grid"
    table = pd.read_csv(folder / "cells.csv")
    assert list(table["status"]) == ["done", "done", "done", "failed"]
    for column in ("steps", "seed", "seconds", "peak_memory_mib", "revision", "device"):
        assert table[column].notna().all(), column
    # not that of the failed cell, which got as far as its claim
    claims = pd.read_csv(folder / "claims.csv")
    assert list(claims["run"]) == ["steps 10, seed 1", "steps 10, seed 2", "steps 11, seed 1"]
    assert list(claims["value"]) == [10, 10, 11]
    page = (folder / "claims.html").read_text(encoding="utf-8")
    assert "01.steps" in page and "steps 11, seed 1" in page
    assert book.runs("01_first") == 3

    switch.touch()
    done = book.run("-m", "workflow.sweep.grid", str(grid_file))
    assert done.status == 0, done.text
    assert book.runs("01_first") == 4
    assert set(pd.read_csv(folder / "cells.csv")["status"]) == {"done"}
    assert len(pd.read_csv(folder / "claims.csv")) == 4
    path.touch()  # newer than the cells, and the same
    assert book.run("-m", "workflow.sweep.grid", str(grid_file)).status == 0
    assert book.runs("01_first") == 4


def test_the_map_of_verdicts_shows_every_value_in_its_verdict_s_colour():
    values = np.array([[0.04, 0.06], [np.nan, -2.0]])
    verdicts = [["holds", "fails"], ["", "inconclusive"]]
    fig = verdict_map(
        values,
        verdicts,
        ["01.a", "01.b"],
        ["<= 0.05", "in [-3, 1]"],
        ["seed 1", "seed 2"],
        title="Two claims",
    )
    cells = fig.data[0]
    assert [list(row) for row in cells.text] == [["✓ 0.04", "✗ 0.06"], ["", "? −2"]]
    assert list(cells.y) == ["01.a  ≤ 0.05", "01.b  in [−3, 1]"]
    assert [trace.name for trace in fig.data[1:]] == ["✓ holds", "✗ fails", "? inconclusive"]
    middles = {"holds": 0.17, "fails": 0.5, "inconclusive": 0.83}  # of the scale's steps
    for verdict, share in middles.items():
        below = [colour for at, colour in cells.colorscale if at <= share]
        assert below[-1] == VERDICT_COLOURS[verdict]
    assert all(contrast("#ffffff", colour) >= 4 for colour in VERDICT_COLOURS.values())


def test_a_map_that_would_mislead_is_refused():
    names = (["01.a"], ["<= 1"], ["1", "2"])
    with pytest.raises(ValueError, match=r"make \(1, 2\)"):
        verdict_map(np.array([[1.0]]), [["holds"]], *names, title="")
    with pytest.raises(ValueError, match="not in list"):
        verdict_map(np.array([[1.0, 2.0]]), [["holds", "maybe"]], *names, title="")


def test_a_sweeps_record_names_what_its_cells_ran_on(monkeypatch):
    written = {}

    def write(name, made_by, device, content, made):
        written.update(device=device, content=content)

    monkeypatch.setattr(stored, "write", write)
    claim = dict.fromkeys(["chapter", "statement", "metric", "unit", "threshold", "verdict"], "x")
    rows = [
        claim | {"id": "02.a", "seed": seed, "claim_seed": seed, "value": 1.0, "device": device}
        for seed, device in enumerate(["NVIDIA H200", "cpu", "NVIDIA H200"])
    ]
    grid.write_record("seeds", ROOT / "grid.yml", pd.DataFrame(rows))
    gpu, cpu = written["device"].split(", ", 1)
    assert gpu == "NVIDIA H200"
    assert re.fullmatch(r".+, \d+ cores", cpu)


def test_records_name_what_there_is():
    with pytest.raises(ValueError, match=r"there is no record 'seed'; records: .*seeds"):
        stored.read("seed")
    with pytest.raises(ValueError, match="there is no record 'question_suites'"):
        stored.read("question_suites")


def test_a_records_table_counts_verdicts(monkeypatch, tmp_path):
    claim = {
        "chapter": "07_x",
        "threshold": ">= 0.9",
        "values": [0.91, 0.95, 0.2],
        "verdicts": ["holds", "holds", "fails"],
    }
    other = claim | {"chapter": "06_x"}
    table = stored.seed_table({"claims": {"07.a": claim, "06.b": other}}, "07_x")
    assert table.to_numpy().tolist() == [
        ["07.a", ">= 0.9", "0.2", "0.91", "0.95", "2 holds, 1 fails"]
    ]


def test_verdicts_that_hang_on_the_seed_are_not_compared():
    table = pd.DataFrame(
        {"threshold": [">= 1"] * 3, "value": "1", "verdict": "holds"}, index=["a", "b", "c"]
    )
    record = {
        "claims": {"a": {"verdicts": ["holds", "holds"]}, "b": {"verdicts": ["holds", "fails"]}}
    }
    shown = stored.steady(table, record)
    assert shown["verdict"].tolist() == ["holds", "differs between seeds", "holds"]
    assert list(shown) == ["threshold", "verdict"]


@pytest.mark.parametrize("name", ["seeds", "variants", "two_layers"])
def test_every_record_says_how_it_was_made(name):
    record = stored.read(name)
    for key in ("made_by", "date", "device", "revision", "versions"):
        assert record[key], key
    assert json.dumps(record, allow_nan=False)
    assert record["date"] in stored.source_line(record)

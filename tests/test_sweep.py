"""Sweeps: every combination is a cell, bad grids are refused before anything runs, only missing cells run again."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

import sweep
from addlib import records
from chapters import ROOT, WorkflowError
from runs import run_script


def grid_of(folder: Path, **content: object) -> Path:
    path = folder / "grid.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_every_combination_is_a_cell_and_its_name_tells_what_varies(tmp_path):
    lists = {"seed": [1, 2], "sample": [2000, 3000], "base": 10}
    cells, record = sweep.read_grid(grid_of(tmp_path, cells=[{"chapter": "01_setup", "parameters": lists}]))
    assert record is None
    assert list(cells) == [f"01_setup_seed-{seed}_sample-{sample}" for seed in (1, 2) for sample in (2000, 3000)]
    assert cells["01_setup_seed-2_sample-3000"]["parameters"] == {"seed": 2, "sample": 3000, "base": 10}


def test_the_books_own_grid_is_sound():
    cells, record = sweep.read_grid(ROOT / "workflow" / "sweeps" / "seeds.yml")
    assert record == "seeds"
    assert len({entry["parameters"]["seed"] for entry in cells.values()}) >= 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "a grid has a list 'cells'"),
        ({"cells": [], "seeds": [1]}, "a grid has a list 'cells'"),
        ({"cells": [{"chapter": "01_setup"}]}, "must have 'chapter' and 'parameters'"),
        ({"cells": [{"chapter": "1_setup", "parameters": {}}]}, "no chapter '1_setup'"),
        ({"cells": [{"chapter": "01_setup", "parameters": {"sed": [1]}}]}, "Did you mean 'seed'"),
        ({"cells": [{"chapter": "01_setup", "parameters": {"seed": [-1]}}]}, "out of range"),
    ],
)
def test_bad_grids_are_refused_before_anything_runs(tmp_path, content, message):
    with pytest.raises(WorkflowError, match=message):
        sweep.read_grid(grid_of(tmp_path, **content))
    done = run_script("workflow/sweep.py", tmp_path / "grid.yml", ADDLIB_RESULTS=str(tmp_path / "results"))
    assert done.returncode == 2
    assert not (tmp_path / "results").exists()


def test_a_sweep_runs_its_cells_once_and_gathers_their_claims(tmp_path):
    cells = [{"chapter": "01_setup", "parameters": {"seed": [1, 2], "sample": 2000}}]
    grid, results = grid_of(tmp_path, cells=cells), tmp_path / "results"
    done = run_script("workflow/sweep.py", grid, ADDLIB_RESULTS=str(results))
    assert done.returncode == 0, done.stdout
    folder = results / "sweeps" / "grid"
    rows = pd.read_csv(folder / "claims.csv")
    assert set(rows["cell"]) == {"01_setup_seed-1", "01_setup_seed-2"}
    assert set(rows["seed"]) == {1, 2}
    assert {"value", "threshold", "verdict", "id"} <= set(rows)

    first, second = (folder / f"01_setup_seed-{seed}" / "runs" / "01_setup.json" for seed in (1, 2))
    before = {path: path.stat().st_mtime_ns for path in (first, second)}
    (folder / "01_setup_seed-2" / ".done").unlink()
    assert run_script("workflow/sweep.py", grid, ADDLIB_RESULTS=str(results)).returncode == 0
    assert first.stat().st_mtime_ns == before[first]
    assert second.stat().st_mtime_ns > before[second]


def test_records_name_what_there_is():
    with pytest.raises(ValueError, match=r"there is no record 'seed'; records: .*seeds"):
        records.read("seed")
    with pytest.raises(ValueError, match="there is no record 'question_suites'"):
        records.read("question_suites")


def test_a_records_table_counts_verdicts(monkeypatch, tmp_path):
    claim = {
        "chapter": "07_x",
        "threshold": ">= 0.9",
        "values": [0.91, 0.95, 0.2],
        "verdicts": ["holds", "holds", "fails"],
    }
    other = claim | {"chapter": "06_x"}
    table = records.seed_table({"claims": {"07.a": claim, "06.b": other}}, "07_x")
    assert table.to_numpy().tolist() == [["07.a", ">= 0.9", "0.2", "0.91", "0.95", "2 holds, 1 fails"]]


def test_verdicts_that_hang_on_the_seed_are_not_compared():
    table = pd.DataFrame({"threshold": [">= 1"] * 3, "value": "1", "verdict": "holds"}, index=["a", "b", "c"])
    record = {"claims": {"a": {"verdicts": ["holds", "holds"]}, "b": {"verdicts": ["holds", "fails"]}}}
    shown = records.steady(table, record)
    assert shown["verdict"].tolist() == ["holds", "differs between seeds", "holds"]
    assert list(shown) == ["threshold", "verdict"]


@pytest.mark.parametrize("name", ["seeds", "variants", "two_layers"])
def test_every_record_says_how_it_was_made(name):
    record = records.read(name)
    for key in ("made_by", "date", "device", "revision", "versions"):
        assert record[key], key
    assert json.dumps(record, allow_nan=False)
    assert record["date"] in records.source_line(record)

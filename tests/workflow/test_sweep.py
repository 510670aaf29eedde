"""Sweeps: every combination is a cell, bad grids are refused, only missing cells run again."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import yaml

from addlib.claims import stored
from addlib.claims.claim import declared
from addlib.claims.provenance import versions
from colours import contrast
from runs import run_script
from throwaway_book import CLAIM_CELL, Book
from workflow.chapters import ROOT, WorkflowError
from workflow.sweep import from_gpu, grid, recorded, report
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


@pytest.mark.parametrize("path", sorted((ROOT / "workflow" / "sweep" / "grids").glob("*.yml")))
def test_every_grid_of_the_book_can_be_run(path):
    cells, _ = grid.read_grid(path)
    assert len(cells) > 1


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
    runs = {"02_x": {"seconds": 1.5}}
    grid.write_record("seeds", ROOT / "grid.yml", pd.DataFrame(rows), runs, missing=["02_y"])
    gpu, cpu = written["device"].split(", ", 1)
    assert gpu == "NVIDIA H200"
    assert re.fullmatch(r".+, \d+ cores", cpu)
    assert written["content"]["runs"] == runs
    assert written["content"]["missing"] == ["02_y"]


def test_a_claim_over_several_models_is_no_claim_over_seeds(monkeypatch):
    """Where one cell has a single such model, the other cells do not lack it."""
    written = {}
    monkeypatch.setattr(stored, "write", lambda *parts: written.update(parts[3]))
    claim = dict.fromkeys(["chapter", "statement", "metric", "unit", "threshold", "verdict"], "x")
    rows = [
        claim | {"id": id, "seed": seed, "claim_seed": of, "value": 1.0, "device": "cpu"}
        for id, seeds in (("03.a", (1, None, None)), ("03.b", (1, 2, 3)))
        for seed, of in zip((1, 2, 3), seeds, strict=True)
    ]
    grid.write_record("shelves", ROOT / "grid.yml", pd.DataFrame(rows), {})
    assert [*written["claims"]] == ["03.b"]
    assert written["claims"]["03.b"]["seeds"] == [1, 2, 3]


# ------------------------------------------------------------ slices of one record
SLICES = {
    f"{chapter}_seed-{seed}": {"chapter": chapter, "run": f"{seed}", "parameters": {"seed": seed}}
    for chapter in ("05_x", "06_x")
    for seed in (1, 2, 3)
}


def ran(cells: list[str], **changes: object) -> tuple[pd.DataFrame, dict[str, dict[str, object]]]:
    """Claims and runs of some of the slices; the third seed's model lacks the first claim."""
    texts = dict.fromkeys(["statement", "metric", "unit"], "x") | {"threshold": ">= 1"}
    rows = []
    for cell in cells:
        chapter, seed = SLICES[cell]["chapter"], SLICES[cell]["parameters"]["seed"]
        for name in ("a", "b")[seed == 3 :]:
            row = texts | {"cell": cell, "id": f"{chapter[:2]}.{name}", "chapter": chapter}
            row |= {"seed": seed, "claim_seed": seed, "value": float(seed), "verdict": "holds"}
            rows.append(row | {"device": "cpu"} | changes)
    seeds = {cell: SLICES[cell]["parameters"]["seed"] for cell in cells}
    return pd.DataFrame(rows), {cell: {"seed": seed} for cell, seed in seeds.items()}


@pytest.fixture
def first_slice(monkeypatch, tmp_path) -> list[str]:
    """The cells of a record that has been gathered already."""
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(stored, "PACKAGE", tmp_path)
    monkeypatch.setattr(stored, "clean_revision", lambda: "abc")
    monkeypatch.setattr(stored, "_check_clean", lambda name: None)
    cells = ["05_x_seed-1", "05_x_seed-3", "06_x_seed-2"]
    grid.write_record("shelves", ROOT / "grid.yml", *ran(cells), since="2026-01-02")
    return cells


def test_a_slice_keeps_what_the_record_has(first_slice):
    rows, runs = ran(["05_x_seed-2", "06_x_seed-2"])
    cells = recorded.with_earlier("shelves", SLICES, rows, runs)
    assert cells.kept == ["05_x_seed-1", "05_x_seed-3"]
    assert cells.since == "2026-01-02"
    assert list(cells.runs) == ["05_x_seed-1", "05_x_seed-2", "05_x_seed-3", "06_x_seed-2"]
    grid.write_record("shelves", ROOT / "grid.yml", cells.rows, cells.runs, since=cells.since)
    record = stored.read("shelves")
    seeds = {id: (claim["seeds"], claim["values"]) for id, claim in record["claims"].items()}
    assert seeds == {
        "05.a": ([1, 2], [1, 2]),
        "05.b": ([1, 2, 3], [1, 2, 3]),
        "06.a": ([2], [2]),
        "06.b": ([2], [2]),
    }
    assert record["date"] == "2026-01-02"


def test_a_slice_of_all_cells_keeps_nothing(first_slice):
    cells = recorded.with_earlier("shelves", SLICES, *ran(list(SLICES)))
    assert (cells.kept, cells.since, len(cells.rows)) == ([], None, 10)
    assert recorded.with_earlier("toy", SLICES, *ran(first_slice)).kept == []


def test_slices_of_other_claims_or_versions_are_not_mixed(first_slice, monkeypatch):
    cells = "05_x_seed-1, 05_x_seed-3, 06_x_seed-2"
    rows, runs = ran(["05_x_seed-2"], threshold=">= 2")
    with pytest.raises(WorkflowError, match=f"05.a has another threshold now; .*: {cells}"):
        recorded.with_earlier("shelves", SLICES, rows, runs)
    rows.loc[0, ["id", "threshold"]] = ["05.c", ">= 1"]
    with pytest.raises(WorkflowError, match=r"05\.b has another threshold now"):
        recorded.with_earlier("shelves", SLICES, rows, runs)
    with pytest.raises(WorkflowError, match=r"05\.c was added since"):
        recorded.with_earlier("shelves", SLICES, rows[:1], runs)
    monkeypatch.setattr(recorded, "versions", lambda: versions() | {"torch": "1"})
    with pytest.raises(WorkflowError, match="record shelves: made with"):
        recorded.with_earlier("shelves", SLICES, *ran(["05_x_seed-2"]))


# ------------------------------------------------------------ cells that a bare GPU has run
CELLS = {
    f"05_x_seed-{seed}": {
        "chapter": "05_x",
        "run": f"seed {seed}",
        "parameters": {"seed": seed, "steps": 9},
    }
    for seed in (1, 2)
}


SAME: Mapping[str, object] = MappingProxyType({})


def brought_back(
    folder: Path, run: Mapping[str, object] | None = SAME, revision: str = "abc"
) -> Path:
    """What workflow.bare_gpu brings back of two cells.

    Args:
        run: what differs in the second one's run; None where there was none.
    """
    texts = dict.fromkeys(["statement", "metric", "unit"], "x")
    claim = texts | {"id": "05.a", "chapter": "05_x", "threshold": ">= 1", "verdict": "holds"}
    claim |= {"value": 2.0, "device": "NVIDIA H200", "revision": "abc", "versions": {"torch": "2"}}
    lacking = claim | {"value": None, "verdict": "fails", "seed": 2}
    over_seeds = claim | {"id": "05.b", "seed": None, "device": "record"}
    found = {}
    own_claim = claim | {"seed": 1, "checkpoint": "f00d"}
    for name, own in zip(CELLS, (own_claim, lacking), strict=True):
        record = {"chapter": "05_x", "status": "done", "smoke": False}
        record |= {"parameters": CELLS[name]["parameters"], "revision": "abc", "seconds": 1.5}
        record |= {"device": "NVIDIA H200", "peak_memory_mib": 9, "started": "then"}
        found[name] = {"run": record, "claims": [own, over_seeds], "said": "the end"}
    if run is None:
        del found["05_x_seed-2"]
    else:
        found["05_x_seed-2"]["run"] |= run
    models = {"1": {"sha256": "one"}, "2": {"sha256": "two"}}
    head = {"date": "2026-01-02", "revision": revision}
    parts = {"environment": head, "seeds": {"cells": found, "models": models}}
    file = folder / "results.json"
    file.write_text(json.dumps(parts))
    return file


def recorded_elsewhere(monkeypatch, folder: Path, file: Path, incomplete: bool = False) -> dict:
    """The record that such a file becomes."""
    monkeypatch.setattr(stored, "PACKAGE", folder)
    elsewhere = from_gpu.unpack(file, CELLS, folder / "cells", incomplete)
    rows = report.claim_table(CELLS, folder / "cells")
    runs = report.runs(CELLS, folder / "cells")
    path = grid.write_record("seeds", ROOT / "grid.yml", rows, runs, elsewhere)
    return json.loads(path.read_text())


def test_cells_that_a_bare_gpu_has_run_become_a_record(monkeypatch, tmp_path):
    record = recorded_elsewhere(monkeypatch, tmp_path, brought_back(tmp_path))
    claims = record.pop("claims")
    ran = {"revision": "abc", "device": "NVIDIA H200", "seconds": 1.5, "peak_memory_mib": 9}
    ran |= {"started": "then", "parameters": {"steps": 9}}
    assert record.pop("runs") == {
        "05_x_seed-1": ran | {"seed": 1, "checkpoint": "f00d"},
        "05_x_seed-2": ran | {"seed": 2, "checkpoint": None},
    }
    assert record == {
        "missing": [],
        "made_by": "make sweep GRID=grid.yml",
        "date": "2026-01-02",
        "device": "NVIDIA H200",
        "revision": "abc",
        "versions": {"torch": "2"},
        "models": {"1": {"sha256": "one"}, "2": {"sha256": "two"}},
    }
    assert list(claims) == ["05.a"]  # the other one is not about a seed's model
    assert claims["05.a"]["seeds"] == [1, 2]
    assert claims["05.a"]["values"] == [2.0, None]
    assert claims["05.a"]["verdicts"] == ["holds", "fails"]


FAULTS = {
    "was not run": None,
    "05_x failed in cell 3 (`x`): no": {
        "status": "failed",
        "failure": {"cell": 3, "source": "x", "error": "no"},
    },
    "was cut off; the end of its log: the end": {"status": "running"},
    "was a smoke run": {"smoke": True},
    "ran with {'seed': 3}, and the grid has {'seed': 2, 'steps': 9}": {"parameters": {"seed": 3}},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_cells_with_a_fault_are_named_and_refused(monkeypatch, tmp_path, capsys, fault):
    file = brought_back(tmp_path, run=FAULTS[fault])
    with pytest.raises(WorkflowError, match=re.escape(f"05_x_seed-2: {fault}")):
        recorded_elsewhere(monkeypatch, tmp_path, file)
    assert not (tmp_path / "cells").exists()
    record = recorded_elsewhere(monkeypatch, tmp_path, file, incomplete=True)
    assert capsys.readouterr().out == f"05_x_seed-2: {fault}\n"
    assert record["claims"]["05.a"]["seeds"] == [1]
    assert list(record["models"]) == ["1"]


def test_cells_of_changed_files_and_other_files_are_refused(monkeypatch, tmp_path):
    file = brought_back(tmp_path, revision="abc-dirty")
    with pytest.raises(ValueError, match="abc-dirty: commit the changed files"):
        recorded_elsewhere(monkeypatch, tmp_path, file)
    file.write_text('{"environment": {}}')
    with pytest.raises(WorkflowError, match=r"no other seeds of workflow\.bare_gpu"):
        recorded_elsewhere(monkeypatch, tmp_path, file)


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


def test_verdicts_that_hang_on_the_model_are_not_compared():
    ids = [id for id, claim in declared().items() if str(claim.threshold) == ">= 0.95"][:7]
    table = pd.DataFrame({"threshold": ">= 0.95", "value": "1", "verdict": "holds"}, index=ids)
    cases = [
        ([2.0, 2.2], ["holds", "holds"], "holds"),
        ([0.5, 2.0], ["fails", "holds"], "differs between seeds"),
        ([1.1, 2.0], ["holds", "holds"], "too close to compare"),
        ([1.0, 1.0], ["holds", "holds"], "holds"),
        ([1.0, None], ["holds", "fails"], "differs between seeds"),
    ]
    claims = {
        id: {
            "chapter": id,  # of its own: no other claim's seeds count
            "threshold": ">= 0.95",
            "seeds": [1, 2],
            "values": values,
            "verdicts": verdicts,
        }
        for id, (values, verdicts, _) in zip(ids, cases, strict=False)
    }
    claims[ids[5]] = claims[ids[1]] | {"threshold": ">= 0.7"}  # says nothing of this claim
    shown = stored.steady(table, {"date": "2026-11-30", "claims": claims})
    assert shown["verdict"].tolist() == [*(case[-1] for case in cases), "holds", "holds"]
    assert list(shown) == ["threshold", "verdict"]


@pytest.mark.parametrize("name", ["seeds", "variants", "two_layers", "second_llm"])
def test_every_record_says_how_it_was_made(name):
    record = stored.read(name)
    for key in ("made_by", "date", "device", "revision", "versions"):
        assert record[key], key
    assert json.dumps(record, allow_nan=False)
    assert record["date"] in stored.source_line(record)

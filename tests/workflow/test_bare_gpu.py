"""The bare GPU run: what it packs, what it keeps when something fails, and cells of other seeds."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from addlib.claims import stored
from workflow import bare_gpu

pytestmark = pytest.mark.depends_on("workflow/**/*")


# ------------------------------------------------------------------------------- packing
@pytest.mark.parametrize(
    "text",
    [
        "Jinja2\ntyping_extensions\nruamel.yaml",
        "Jinja2==3.1.6\ntyping_extensions==4.1\nruamel.yaml @ file:///x",
        "Jinja2, typing_extensions,  ruamel.yaml",
        "Jinja2              3.1.6\ntyping_extensions   4.1\n\nruamel.yaml 0.18\n",
    ],
)
def test_names_are_read_from_lists_of_packages(tmp_path: Path, text: str) -> None:
    file = tmp_path / "has.txt"
    file.write_text(text)
    assert bare_gpu.names_in(file) == {"jinja2", "typing-extensions", "ruamel-yaml"}


def test_what_is_missing_follows_requirements_of_the_other_machine(monkeypatch) -> None:
    requirements = {
        "addlib": ["There>=1", "Lacks_This"],
        "lacks-this": ["old; python_version < '3.12'", "new; python_version >= '3.12'"],
        "new": ["on-windows; sys_platform == 'win32'", "for-tests; extra == 'test'", "addlib"],
    }
    installed = {
        name: SimpleNamespace(version=f"1.{number}", requires=needs)
        for number, (name, needs) in enumerate(requirements.items())
    }
    monkeypatch.setattr("importlib.metadata.distribution", installed.__getitem__)
    monkeypatch.setattr(bare_gpu, "NEEDED", ("addlib",))
    assert bare_gpu.missing({"there"}, "3.12") == {"lacks-this": "1.1", "new": "1.2"}


def test_changed_files_are_not_packed(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stored, "revision", lambda: "abc123-dirty")
    with pytest.raises(SystemExit, match="abc123-dirty: commit the changed files"):
        bare_gpu.pack(tmp_path / "folder", tmp_path / "has.txt", "3.12")
    assert not (tmp_path / "folder").exists()


# -------------------------------------------------------------------------------- the run
@pytest.fixture
def out(monkeypatch, tmp_path: Path) -> Path:
    """A folder for results of the parts a, b and c, whose environment is known."""
    monkeypatch.setattr(bare_gpu, "SECONDS", {"a": 5, "b": 5, "c": 5})
    folder = tmp_path / "out"
    folder.mkdir()
    bare_gpu.note(folder, "environment", {"device": "none"})
    return folder


def test_notes_stand_beside_each_other(out: Path) -> None:
    bare_gpu.note(out, "b", {"result": 1})
    bare_gpu.note(out, "b", {"result": 2})
    assert bare_gpu.results(out) == {"environment": {"device": "none"}, "b": {"result": 2}}
    assert bare_gpu.unfinished(out) == ["a", "c"]
    assert [file.name for file in out.iterdir()] == ["results.json"]


def packed(tmp_path: Path) -> Path:
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "about.json").write_text('{"revision": "abc", "pins": {}}')
    with tarfile.open(folder / "source.tar.gz", "w:gz"):
        pass
    return folder


def test_a_process_that_died_costs_one_part(monkeypatch, tmp_path: Path, out: Path) -> None:
    starts = []

    def process(command: list[str], **_: object) -> SimpleNamespace:
        if "pip" not in command:
            starts.append(bare_gpu.unfinished(out))
            if len(starts) == 2:
                for name in bare_gpu.unfinished(out):
                    bare_gpu.note(out, name, {"result": "done"})
        return SimpleNamespace(returncode=-11)

    monkeypatch.setattr(subprocess, "run", process)
    bare_gpu.run(packed(tmp_path), out, small=True, seconds=60, only=["a", "b"])
    found = bare_gpu.results(out)
    assert starts == [["a", "b"], ["b"]]
    assert found["a"] == {"error": "the process ended with -11"}
    assert found["b"] == {"result": "done"}
    assert found["c"] == {"skipped": True}


def parts(monkeypatch, out: Path, seconds: float = 60, **work: object) -> int:
    order = {"ends": time.time() + seconds, "about": {}, "small": True}
    monkeypatch.setenv("ADDLIB_BARE", json.dumps(order))
    names = {"a": "graphs", "b": "main", "c": "chapters"}
    functions = {"graphs": "graphs", "main": "main_model", "chapters": "all_chapters"}
    monkeypatch.setattr(bare_gpu, "SECONDS", {names[name]: 0.3 for name in work})
    for name, function in work.items():
        monkeypatch.setattr(bare_gpu, functions[names[name]], function)
    return bare_gpu.parts(out)


def fails(out: Path, small: bool) -> None:
    raise RuntimeError("out of luck")


def never_ends(out: Path, small: bool) -> None:
    time.sleep(60)


def works(out: Path, small: bool) -> dict[str, bool]:
    return {"small": small}


def test_a_part_that_fails_leaves_its_traceback_and_the_next_process_goes_on(
    monkeypatch, out: Path
) -> None:
    assert parts(monkeypatch, out, a=fails, b=works) == 1
    assert "RuntimeError: out of luck" in bare_gpu.results(out)["graphs"]["error"]
    assert bare_gpu.unfinished(out) == ["main"]
    assert parts(monkeypatch, out, a=fails, b=works) == 0
    assert bare_gpu.results(out)["main"]["result"] == {"small": True}


def test_a_part_that_needs_no_cuda_here_ends_no_process(monkeypatch, out: Path) -> None:
    assert parts(monkeypatch, out, c=fails, b=works) == 0
    assert "out of luck" in bare_gpu.results(out)["chapters"]["error"]


def test_a_part_has_its_own_time_and_none_begins_at_the_end(monkeypatch, out: Path) -> None:
    assert parts(monkeypatch, out, a=never_ends) == 1
    assert "OutOfTimeError: stopped after 0 s" in bare_gpu.results(out)["graphs"]["error"]
    parts(monkeypatch, out, seconds=1, b=works)
    assert bare_gpu.results(out)["main"]["error"] == "no time was left"


# ---------------------------------------------------------------------------- other seeds
def test_cells_of_a_seed_come_together_and_the_later_rounds_after_all() -> None:
    cells = bare_gpu.cells_of_seeds(small=False)
    order = [(cell["chapter"][:2], cell["parameters"]["seed"]) for cell in cells.values()]
    first = [(chapter, seed) for seed in bare_gpu.SEEDS for chapter in ("04", "05", "06", "07")]
    assert order[: len(first)] == first
    assert order[len(first) :] == [(n, seed) for n in ("08", "02") for seed in bare_gpu.SEEDS]
    assert len(bare_gpu.cells_of_seeds(small=True)) == 2


CELL = """
import json, pathlib, sys, time
name, _, folder, _, key, seed = sys.argv[1:7]
time.sleep(60 if seed == "3" else 0)
assert seed != "2", "what it said"
folder = pathlib.Path(folder) / "runs"
folder.mkdir(parents=True)
run = {"status": "done", "parameters": {key: int(seed)}}
(folder / f"{name}.json").write_text(json.dumps(run))
"""
"""Stands in for a chapter: seed 1 is done at once, 2 fails, 3 doesn't end."""


@pytest.fixture
def three_cells(monkeypatch, tmp_path: Path, out: Path) -> list[subprocess.Popen[bytes]]:
    """Runs `other_seeds` on cells of three seeds; the processes that it starts."""
    cells = {
        f"05_x_seed-{seed}": {"chapter": "05_x", "parameters": {"seed": seed}} for seed in (1, 2, 3)
    }
    folder = SimpleNamespace(path=tmp_path / "run")
    runs = [SimpleNamespace(config=SimpleNamespace(seed=n, folder=folder)) for n in (1, 2, 3)]
    started = []

    def start(arguments, environment, log) -> subprocess.Popen[bytes]:
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", CELL, *map(str, arguments)],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process

    monkeypatch.setattr(bare_gpu, "cells_of_seeds", lambda small: cells)
    monkeypatch.setattr(bare_gpu, "_timed_runs", lambda make: (runs, {"seconds": 1.0}))
    monkeypatch.setattr(bare_gpu, "_model", lambda run: {"sha256": f"of {run.config.seed}"})
    monkeypatch.setattr(bare_gpu, "_bring_back", lambda runs, out: None)
    monkeypatch.setattr(bare_gpu, "_start", start)
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "weights"))
    return started


def test_cells_that_ended_are_kept_when_time_runs_out(three_cells, out: Path) -> None:
    with bare_gpu.at_most(5):
        found = bare_gpu.other_seeds(out, small=False)
    assert found["failed"] == ["05_x_seed-2"]
    assert found["missing"] == ["05_x_seed-3"]
    kept = bare_gpu.results(out)["seeds"]
    assert list(kept["models"]) == ["1", "2", "3"]
    done = kept["cells"]["05_x_seed-1"]
    assert done["run"] == {"status": "done", "parameters": {"seed": 1}}
    assert done["checkpoint"] == "of 1"
    assert "AssertionError: what it said" in kept["cells"]["05_x_seed-2"]["said"]
    assert all(process.wait(10) is not None for process in three_cells)

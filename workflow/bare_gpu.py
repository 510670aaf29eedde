"""The book on a bare machine with a GPU that is at hand for ten minutes: no network, no git.

    python -m workflow.bare_gpu pack FOLDER --has FILE   # here: what the other machine needs
    python3 FOLDER/bare_gpu.py run FOLDER OUT            # there

`pack` makes a folder with an archive of a clean revision, this script, and wheels of what the other
machine lacks; FILE lists what it has (``pip list`` or names alone, one a line). `run` does its parts
in this order, each within its own time, and after each writes all there is so far to
``OUT/results.json``; a part that fails leaves its traceback and ends no other. The trained weights
of further seeds come back as archives of run folders. What it measured becomes a record by
``python -m workflow.record --from OUT/results.json``, and what chapters found on other seeds by
``python -m workflow.sweep.grid GRID --from OUT/results.json --record``.

Until the wheels are there this needs Python alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NEEDED = ("addlib", "papermill", "nbclient", "nbformat", "ipykernel", "filelock", "pyyaml")
"""Packages that chapters need, where they run without a site."""

NOT_NEEDED = {"kaleido", "transformers-stream-generator", "wandb"}
"""What these ask for and never import there, or read from their own folder alone."""

TARGET = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "extra": "",
}
"""The other machine, as markers of requirements call it."""

MOST_MIB = 45
"""Size that a folder may have, so that it can travel with a checkout."""

FILES, FILE_MIB, ALL_MIB = 8, 16, 60
"""Files that may come back, the size of each, and of all together."""

SECONDS = {
    "graphs": 60,
    "main": 40,
    "grokking": 45,
    "eight seeds": 60,
    "trainings of chapter 03": 60,
    "trainings of chapter 10": 40,
    "benchmarks": 100,
    "chapters": 240,
    "weights": 80,
    "other seeds": 290,
}
"""The parts in their order, with the most time that each may take."""

SPARE_SECONDS = 10
"""Seconds after the end of its time after which a process is killed."""

ALONE = ("chapters",)
"""Parts that start programs of their own and need no CUDA in this one."""

SEEDS = range(101, 109)
"""Seeds whose trained weights come back as far as there is room."""

ROUNDS = (("seeds", ("04", "05", "06", "07")), ("carry_5000", ("08",)), ("seeds", ("02",)))
"""Grids of a sweep, and the numbers of the chapters whose cells run next, seed after seed."""

SIDE_BY_SIDE = 14
"""Cells that run at a time."""


# ------------------------------------------------------------------------------- packing
def pack(folder: Path, has: Path, python: str) -> None:
    """Fill a new folder with all that the other machine needs.

    Args:
        folder: to be made.
        has: file that lists the packages of the other machine.
        python: its version, e.g. 3.12.

    Raises:
        SystemExit: files differ from the revision, a wheel can't be had, or it is too much.
    """
    from addlib.claims.stored import clean_revision

    root = Path(__file__).resolve().parents[1]
    try:
        revision = clean_revision()
    except ValueError as error:
        sys.exit(f"error: {error}")
    folder.mkdir(parents=True)
    source = folder / "source.tar.gz"
    subprocess.run(["git", "-C", root, "archive", "-o", source.resolve(), "HEAD"], check=True)
    pins = missing(names_in(has), python)
    wheels(pins, python, folder / "wheels")
    shutil.copy(__file__, folder / "bare_gpu.py")
    about = {"revision": revision, "python": python, "pins": pins}
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    if size > MOST_MIB:
        sys.exit(f"error: {folder} has {size:.0f} MiB: must be at most {MOST_MIB}")
    print(f"{folder}: revision {revision}, {len(pins)} wheels, {size:.1f} MiB")


def names_in(file: Path) -> set[str]:
    """Names of packages in a list of them: of names, of ``pip list`` or of ``pip freeze``."""
    words = re.split(r"[,\n]", file.read_text(encoding="utf-8"))
    names = (re.match(r"\s*([A-Za-z0-9._-]+)", word) for word in words)
    return {_canonical(name[1]) for name in names if name}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def missing(has: Iterable[str], python: str) -> dict[str, str]:
    """Packages that the other machine lacks, with the versions that are installed here."""
    from importlib import metadata

    from packaging.requirements import Requirement

    markers = TARGET | {"python_version": python, "python_full_version": f"{python}.0"}
    seen: dict[str, str] = {}
    left = list(NEEDED)
    while left:
        name = _canonical(left.pop())
        if name in seen or name in has or name in NOT_NEEDED:
            continue
        installed = metadata.distribution(name)
        seen[name] = installed.version
        wanted = [Requirement(text) for text in installed.requires or []]
        left += [need.name for need in wanted if not need.marker or need.marker.evaluate(markers)]
    return {name: version for name, version in sorted(seen.items()) if name != "addlib"}


def wheels(pins: dict[str, str], python: str, folder: Path) -> None:
    """Download the wheels of these versions for Linux on x86-64."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(39, 4, -1)]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={python}", *platforms, f"--dest={folder}"]
    subprocess.run([*command, *(f"{n}=={v}" for n, v in pins.items())], check=True)


# ------------------------------------------------------------------------- on the machine
def run(folder: Path, out: Path, small: bool, seconds: float, only: list[str] | None) -> None:
    """Unpack, install, and let the parts run one after another, within so many seconds in all."""
    ends = time.time() + seconds
    work = Path("/tmp" if os.name == "posix" else ".") / f"addlib-bare-{os.getpid()}"
    site = work / "site"
    source = work / "source"
    out.mkdir(parents=True, exist_ok=True)
    for name in SECONDS:
        if only and name not in only:
            note(out, name, {"skipped": True})
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    with tarfile.open(folder / "source.tar.gz") as archive:
        archive.extractall(source, filter="data")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-compile", "--disable-pip-version-check", "--no-cache-dir"]
    found = sorted(str(file) for file in (folder / "wheels").glob("*.whl"))
    subprocess.run([*command, "--target", site, *found], check=True)
    environment = os.environ | {
        "PYTHONPATH": f"{source}{os.pathsep}{site}",
        "PYTHONUNBUFFERED": "1",
        "JUPYTER_PATH": str(site / "share" / "jupyter"),
        "HF_HUB_OFFLINE": "1",
        "ADDLIB_CACHE": str(work / "weights"),
        "ADDLIB_BARE": json.dumps({"ends": ends, "about": about, "small": small}),
    }
    command = [sys.executable, "-m", "workflow.bare_gpu", "parts", str(out.resolve())]
    while (before := unfinished(out)) and time.time() < ends:
        left = ends + SPARE_SECONDS - time.time()
        try:
            done = subprocess.run(command, cwd=source, env=environment, timeout=left)
            code = str(done.returncode)
        except subprocess.TimeoutExpired:
            code = "a timeout"
        if unfinished(out) == before:  # it died before it could say anything
            note(out, before[0], {"error": f"the process ended with {code}"})
    shutil.rmtree(work, ignore_errors=True)
    for name, part in results(out).items():
        said = part.get("error", "").strip().splitlines()[-1:]
        said = said or ["skipped" if part.get("skipped") else "done"]
        print(f"{name}: {part.get('seconds', '')} s {said[0]}")


def results(out: Path) -> dict[str, Any]:
    """What was written so far."""
    file = out / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def note(out: Path, name: str, content: dict[str, Any]) -> None:
    """Write a part's result beside those that are there."""
    temporary = out / ".results.json"
    text = json.dumps(results(out) | {name: content}, indent=1, default=str)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(out / "results.json")


def unfinished(out: Path) -> list[str]:
    """Parts that have no result yet."""
    done = results(out)
    return [name for name in SECONDS if name not in done]


class OutOfTimeError(Exception):
    """A part took longer than it may."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise :class:`OutOfTimeError` after so many seconds."""

    def stop(*_: object) -> None:
        raise OutOfTimeError(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def parts(out: Path) -> int:
    """Do the parts that are left until one fails, for CUDA may be of no use after that."""
    order = json.loads(os.environ["ADDLIB_BARE"])
    work: dict[str, Callable[[Path, bool], Any]] = {
        "graphs": graphs,
        "main": main_model,
        "grokking": grokking,
        "eight seeds": eight_seeds,
        "trainings of chapter 03": trainings_of_03,
        "trainings of chapter 10": trainings_of_10,
        "benchmarks": benchmarks,
        "chapters": all_chapters,
        "weights": further_weights,
        "other seeds": other_seeds,
    }
    if "environment" not in results(out):
        from addlib.device import choose_device
        from workflow.record import environment

        head = {"revision": order["about"]["revision"], "pins": order["about"]["pins"]}
        note(out, "environment", head | environment(choose_device("auto")))
    for name in unfinished(out):
        left = order["ends"] - time.time()
        if left < 5:
            note(out, name, {"error": "no time was left", "seconds": 0})
            continue
        begun = time.perf_counter()
        outcome: dict[str, Any] = {}
        try:
            with at_most(min(left, SECONDS[name])):
                outcome["result"] = work[name](out, order["small"])
        except Exception:
            outcome["error"] = traceback.format_exc()
        outcome["seconds"] = round(time.perf_counter() - begun, 1)
        note(out, name, outcome)
        print(f"{name}: {outcome['seconds']} s {outcome.get('error', '')}", flush=True)
        if '"error": "Traceback' in json.dumps(outcome, default=str) and name not in ALONE:
            return 1
    return 0


# --------------------------------------------------------------------------------- parts
def graphs(out: Path, small: bool) -> dict[str, Any]:
    """How far the losses of ten steps as a graph are from those of ten eager ones, by shape."""
    from dataclasses import replace

    from addlib.device import choose_device
    from addlib.models.addition import ModelConfig
    from addlib.tasks.addition import AdditionTask
    from addlib.tasks.pairs import PairTask
    from addlib.training.addition import TrainConfig
    from addlib.training.pairs import PairConfig
    from addlib.training.runs import RunConfig
    from addlib.training.stacked import stacked_trainer

    shape = ModelConfig(width=48 if small else 510)
    one = TrainConfig(AdditionTask(5), shape, steps=20)
    two = TrainConfig(AdditionTask(3), replace(shape, n_layers=2, width=48), steps=20)
    pairs = PairConfig(PairTask(13 if small else 113, modular=True), share=0.3, epochs=20)
    shapes: dict[str, list[RunConfig]] = {
        "one layer": [one],
        "four of one layer": [replace(one, seed=seed) for seed in range(4)],
        "two layers": [two],
        "three of two layers": [replace(two, seed=seed) for seed in range(3)],
        "pairs": [pairs],
        "three of pairs": [replace(pairs, seed=seed, data_seed=seed) for seed in range(3)],
    }
    found: dict[str, Any] = {}
    for name, configs in shapes.items():
        begun = time.perf_counter()
        try:
            stack = stacked_trainer(configs)
            if choose_device().type == "cuda":
                stack.record_graphs()
            ready = time.perf_counter() - begun
            stack.advance(20)
            apart = []
            for number, config in enumerate(configs):
                eager = config.trainer()
                eager.train(10)
                losses = stack.finished(number).loss[:10]
                apart.append((losses - eager.history.loss[:10]).abs().max().item())
            found[name] = {"apart": max(apart), "seconds_to_record": round(ready, 2)}
        except Exception:
            found[name] = {"error": traceback.format_exc()}
    return found


def main_model(out: Path, small: bool) -> dict[str, Any]:
    """The book's main model, from nothing, with its snapshots."""
    from dataclasses import replace

    from addlib.training.runs import MAIN, load_or_train

    return _timed(lambda: [load_or_train(replace(MAIN, steps=20) if small else MAIN)])


def grokking(out: Path, small: bool) -> dict[str, Any]:
    """The model of p = 113 to its stop rule."""
    from dataclasses import replace

    from addlib.training.runs import GROKKING, load_or_train

    return _timed(lambda: [load_or_train(replace(GROKKING, epochs=10) if small else GROKKING)])


def eight_seeds(out: Path, small: bool) -> dict[str, Any]:
    """Eight more main models at once."""
    return _timed(lambda: _trained(range(8), 10 if small else 5000))


def trainings_of_03(out: Path, small: bool) -> dict[str, Any]:
    """The small models of chapter 03, which differ in their seeds, numbers of digits and bases."""
    from dataclasses import replace

    from addlib.tasks.addition import AdditionTask
    from addlib.training.runs import MAIN, load_or_train_all
    from addlib.training.shelf_runs import small_config

    base = small_config(20 if small else 1500, 48 if small else 128, 3, 129000)
    short = replace(base, steps=min(1000, base.steps), snapshot_every=1000)
    configs = [replace(base, seed=base.seed + number) for number in range(5)]
    configs.append(replace(base, steps=min(600, base.steps), snapshot_every=10))
    configs.append(replace(base, batch_size=256))
    configs.append(replace(MAIN, steps=6 if small else 60, snapshot_every=6))
    for n_digits in (2, 3, 5):
        tasks = [AdditionTask(n_digits, numbers) for numbers in (2, 3, 5, 10, 16)]
        configs += [replace(short, task=task) for task in tasks]
    return _timed(lambda: load_or_train_all(configs))


def trainings_of_10(out: Path, small: bool) -> dict[str, Any]:
    """The models of the toy chapter: five seeds, three other numbers, three with biases."""
    from dataclasses import replace

    from addlib.tasks.pairs import PairTask
    from addlib.training.pairs import PairConfig
    from addlib.training.runs import load_or_train_all

    base = PairConfig(epochs=20 if small else 5000)
    seeds = [replace(base, seed=base.seed + number) for number in range(5)]
    short = replace(base, epochs=base.epochs // 2)
    extra = [replace(short, task=PairTask(p)) for p in (7, 13, 20)]
    extra += [replace(short, seed=config.seed, biases=True) for config in seeds[:3]]
    return _timed(lambda: load_or_train_all(seeds) + load_or_train_all(extra))


def _trained(seeds: Iterable[int], steps: int) -> list[Any]:
    from dataclasses import replace

    from addlib.training.runs import MAIN, load_or_train_all

    return load_or_train_all([replace(MAIN, steps=steps, seed=seed) for seed in seeds])


def _timed(make: Callable[[], list[Any]]) -> dict[str, Any]:
    """How long it takes until runs are made, written and read, and how each was trained."""
    return _timed_runs(make)[1]


def _timed_runs(make: Callable[[], list[Any]]) -> tuple[list[Any], dict[str, Any]]:
    """The runs, and what `_timed` says of them."""
    begun = time.perf_counter()
    runs = make()
    return runs, {
        "seconds": round(time.perf_counter() - begun, 2),
        "runs": [
            {
                "folder": run.config.folder.path.name,
                "steps": run.steps,
                "seconds": run.record["seconds"],
                "ways": [session["way"] for session in run.record["sessions"]],
                "loss": run.history.loss[-100:].mean().item(),
            }
            for run in runs
        ],
    }


def benchmarks(out: Path, small: bool) -> dict[str, Any]:
    """Rows of the benchmarks, each on its own: one that fails leaves its traceback."""
    from importlib import import_module

    from addlib.device import choose_device

    sys.path.append("benchmarks")
    names = ("answers", "pair_step", "patching", "train_step")
    answers, pair_step, patching, train_step = map(import_module, names)
    device = choose_device()
    repeats = 1 if small else 5
    rows = {
        f"train_step_{device.type}": lambda: train_step.measure(
            device, repeats, 2 if small else 10
        ),
        f"pair_step_{device.type}": lambda: pair_step.measure(device, repeats),
        f"patching_qwen_shape_{device.type}": lambda: patching.measure(
            None, "middling" if small else "qwen", device, None, 2 if small else 8, repeats=1
        ),
    }
    if not small:
        rows[f"answers_{device.type}"] = lambda: answers.measure(device.type)
        rows["million_answers"] = million_answers
    found: dict[str, Any] = {}
    for name, measure in rows.items():
        try:
            found[name] = measure()
        except OutOfTimeError:
            raise
        except Exception:
            found[name] = {"error": traceback.format_exc()}
        note(out, "benchmarks so far", found)
    return found


def million_answers() -> dict[str, Any]:
    """A million questions, answered three times."""
    import torch

    from addlib.analysis.answers import answer
    from addlib.tasks.sampling import uniform_questions
    from addlib.training.runs import MAIN, load_or_train

    run = load_or_train(MAIN)
    questions = uniform_questions(MAIN.task, 10**6, torch.Generator().manual_seed(1))
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        answers = answer(run.model, questions)
        seconds.append(round(time.perf_counter() - begun, 2))
    return {"seconds": seconds, "right": answers.right.double().mean().item()}


def all_chapters(out: Path, small: bool) -> dict[str, Any]:
    """All chapters but the language model's, side by side, from nothing."""
    from workflow.chapters import Results, chapters
    from workflow.record import ran

    names = [name for name in chapters() if not name.startswith("12")]
    work = Path(os.environ["ADDLIB_CACHE"]).parent
    results = Results(work / "results")
    environment = os.environ | {
        "ADDLIB_CACHE": str(work / "weights-of-chapters"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    }
    logs = work / "logs"
    logs.mkdir()
    begun = time.perf_counter()
    size = ["--smoke"] if small else []
    running = {
        name: _start([name, "--results", results.folder, *size], environment, logs / name)
        for name in names
    }
    try:
        for process in running.values():
            process.wait()
    except OutOfTimeError:
        _kill(running.values())
    seconds = round(time.perf_counter() - begun, 1)
    said = {name: (logs / name).read_text(errors="replace")[-1500:] for name in names}
    trained = {}
    for file in (work / "weights-of-chapters").glob("*/run.json"):
        made = json.loads(file.read_text(encoding="utf-8"))
        ways = [session["way"] for session in made["sessions"]]
        trained[file.parent.name] = {"seconds": made["seconds"], "ways": ways}
    found = {"seconds_of_all": seconds, **ran(results, names)}
    return found | {"runs": trained, "said": said}


def _start(arguments: list[Any], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Run a chapter in a process, and a session, of its own."""
    command = [sys.executable, "-m", "workflow.execute", *map(str, arguments)]
    with log.open("w") as file:
        return subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def _kill(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End those that still run, with what they started."""
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def further_weights(out: Path, small: bool) -> dict[str, Any]:
    """Main models of further seeds, trained twice as long; as many come back as there is room."""
    runs, measured = _timed_runs(lambda: _trained(SEEDS, 12 if small else 10_000))
    _bring_back(runs, out)
    return measured


def _bring_back(runs: Iterable[Any], out: Path) -> None:
    """Archives of as many runs as there is room for."""
    for run in runs:
        sizes = [file.stat().st_size / 2**20 for file in out.iterdir()]
        kept = ("run.json", "history.safetensors", f"weights-{run.steps:06d}.safetensors")
        folder = run.config.folder.path
        size = sum((folder / name).stat().st_size for name in kept) / 2**20
        if len(sizes) + 1 > FILES or size > FILE_MIB - 1 or sum(sizes) + size > ALL_MIB:
            break
        with tarfile.open(out / f"seed-{run.config.seed}.tar", "w") as archive:
            for name in kept:
                archive.add(folder / name, f"{folder.name}/{name}")


def other_seeds(out: Path, small: bool) -> dict[str, Any]:
    """Chapters on main models of other seeds, trained together: cells of sweeps.

    Each cell that ended is in ``results.json`` at once, as ``seeds``: the record of its run, its
    claims, and the digest of the weights that it read. Where time runs out, the rest is missing.
    """
    from dataclasses import replace

    from addlib.training.runs import MAIN, load_or_train_all
    from workflow.chapters import Results

    cells = cells_of_seeds(small)
    main = MAIN
    if small:  # as the chapters' smoke runs
        main = replace(MAIN, steps=200, model=replace(MAIN.model, width=48))
    seeds = sorted({cell["parameters"]["seed"] for cell in cells.values()})
    configs = [replace(main, seed=seed) for seed in seeds]
    runs, trained = _timed_runs(lambda: load_or_train_all(configs))
    models = {str(run.config.seed): _model(run) for run in runs}
    ended: dict[str, Any] = {}
    note(out, "seeds", {"models": models, "cells": ended})
    _bring_back(runs, out)
    work = Path(os.environ["ADDLIB_CACHE"]).parent / "cells"
    work.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    waiting = list(cells)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < SIDE_BY_SIDE:
                name = waiting.pop(0)
                values = cells[name]["parameters"].items()
                arguments = [cells[name]["chapter"], "--results", work / name]
                arguments += [word for key, value in values for word in ("-p", key, value)]
                arguments += ["--smoke"] if small else []
                running[name] = _start(arguments, environment, work / f"{name}.log")
            now = [name for name, process in running.items() if process.poll() is not None]
            for name in now:
                del running[name]
                cell = cells[name]
                ended[name] = _cell(Results(work / name), cell, work / f"{name}.log", small)
                ended[name]["checkpoint"] = models[str(cell["parameters"]["seed"])]["sha256"]
                print(f"{name}: {ended[name]['run'].get('status')}", flush=True)
            if now:
                note(out, "seeds", {"models": models, "cells": ended})
            else:
                time.sleep(0.2)
    except OutOfTimeError:
        _kill(running.values())
    failed = [name for name, cell in ended.items() if cell["run"].get("status") != "done"]
    missing = [name for name in cells if name not in ended]
    known = {run.config.folder.path.name for run in runs}
    there = {file.parent.name for file in Path(os.environ["ADDLIB_CACHE"]).glob("*/run.json")}
    found = {"cells": len(cells), "failed": failed, "missing": missing, **trained}
    return found | {"other_trainings": sorted(there - known)}


def cells_of_seeds(small: bool) -> dict[str, dict[str, Any]]:
    """The cells that `other_seeds` runs, in their order; small, two of chapter 05."""
    from workflow.chapters import ROOT
    from workflow.sweep.grid import read_grid

    cells: dict[str, dict[str, Any]] = {}
    for grid, numbers in ROUNDS:
        found, _ = read_grid(ROOT / "workflow" / "sweep" / "grids" / f"{grid}.yml")
        chosen = [item for item in found.items() if item[1]["chapter"][:2] in numbers]
        cells |= sorted(chosen, key=lambda item: item[1]["parameters"]["seed"])
    if small:
        cells = dict([item for item in cells.items() if item[0].startswith("05")][:2])
    return cells


def _model(run: Any) -> dict[str, Any]:
    """A trained model: its folder, the SHA-256 of its weights' file, and how it was trained."""
    ways = [session["way"] for session in run.record["sessions"]]
    folder = run.config.folder.path.name
    return {"folder": folder, "sha256": run.checkpoint, "steps": run.steps, "ways": ways}


def _cell(results: Any, cell: dict[str, Any], log: Path, small: bool) -> dict[str, Any]:
    """What a cell left: its run's record and claims, and where it failed the end of its log."""
    run = results.record(cell["chapter"])
    left = {"run": run, "claims": results.measured("smoke" if small else "")}
    if run.get("status") != "done":
        left["said"] = log.read_text(encoding="utf-8", errors="replace")[-1500:]
    return left


# ------------------------------------------------------------------------- command line
def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="make the folder")
    packing.add_argument("folder", type=Path)
    packing.add_argument("--has", type=Path, required=True, help="packages of the other machine")
    packing.add_argument("--python", default="3.12", help="its Python (default: %(default)s)")
    running = commands.add_parser("run", help="run all there is to measure")
    running.add_argument("folder", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--small", action="store_true", help="tiny sizes, to try it out")
    running.add_argument("--seconds", type=float, default=530, help="in all (default: %(default)s)")
    running.add_argument("--only", nargs="+", choices=SECONDS, help="these parts alone")
    rest = commands.add_parser("parts", help="what `run` starts")
    rest.add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "pack":
        pack(options.folder, options.has, options.python)
    elif options.command == "run":
        run(options.folder, options.out, options.small, options.seconds, options.only)
    else:
        return parts(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

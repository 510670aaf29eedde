"""A plugin of pytest: a test is skipped where nothing that it depends on has changed since it passed.

``@pytest.mark.depends_on("notebooks/{name}.ipynb", "book/**/*")`` says that a test may be skipped,
and names files beyond those that are found by themselves: the test's file, the settings and scripts
beside it, the helpers that it imports, and the modules of the book that these import or name in a
text (``"workflow.execute"``). Braces hold parameters of the test. Modules and notebooks bring what
they depend on (`workflow.dependencies`), a notebook its entry in chapters.yml and its claims. The
packages, Python and pytest's settings count always.

What passed is noted in ``_build/passed/``, on this machine alone. ``ADDLIB_TEST=all`` runs
everything, ``ADDLIB_TEST=full`` too (`make test-full`), and a fresh checkout has no notes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Generator, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from workflow.chapters import CHAPTERS, ROOT, chapters
from workflow.dependencies import (
    CLAIMS,
    claims_digest,
    code_files,
    module_code,
    module_files,
    notebook_code,
)

MARK = "depends_on"

PASSED = ROOT / "_build" / "passed"

MAY_SKIP = not {"ADDLIB_TEST", "ADDLIB_TEST_GPU", "ADDLIB_SITE"} & set(os.environ)
"""Whether this is a plain run; any other one looks at everything, and notes nothing."""

ALWAYS = ("requirements.txt", "pyproject.toml", "tests/helpers/unchanged.py")

HELPERS = (ROOT / "tests" / "helpers", ROOT / "tests")
"""Where tests import from, beside their own folder."""

MODULE = re.compile(r"\b(?:addlib|workflow)(?:\.\w+)+")

DIGEST = pytest.StashKey[str]()
"""The hash of what a test depends on, before it runs."""

CALL_PASSED = pytest.StashKey[bool]()


def files_of(test: Path, patterns: Iterable[str] = ()) -> list[Path]:
    """The files that a test file's tests depend on.

    Args:
        patterns: of further files, relative to the repository's root.

    Raises:
        ValueError: no file fits a pattern.
    """
    files = {ROOT / name for name in ALWAYS}
    named = [path for pattern in patterns for path in _named(pattern)]
    waiting = [test, *_beside(test), *named]
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting += _brought_by(path)
    if CHAPTERS not in named and any(path.suffix == ".ipynb" for path in files):
        files.discard(CHAPTERS)  # a notebook brings its entry alone
    return sorted(files)


def _named(pattern: str) -> list[Path]:
    found = [path for path in ROOT.glob(pattern) if path.is_file()]
    if not found:
        raise ValueError(f"a test depends on {pattern}, and there is no such file")
    return [path for path in found if "__pycache__" not in path.parts]


def digest_of(files: Iterable[Path]) -> str:
    """A hash of the files, of what belongs to the notebooks among them, and of Python."""
    digest = hashlib.sha256(sys.version.encode())
    for path in files:
        digest.update(f"\n{path} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
        if path.suffix == ".ipynb":
            digest.update(_entry(path.stem, CHAPTERS.stat().st_mtime_ns, CLAIMS.stat().st_mtime_ns))
    return digest.hexdigest()


@functools.cache
def _entry(name: str, *times: int) -> bytes:
    """What chapters.yml and book/claims.yml, as they were at these times, say of a chapter."""
    chapter = chapters()[name]
    return f"{chapter.smoke} {chapter.check} {claims_digest(chapter)}".encode()


def passed_on(test: str, digest: str) -> str | None:
    """The day on which this test passed with files of this hash, as noted here; else None."""
    try:
        note = json.loads(_note(test).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return note["day"] if note["digest"] == digest else None


def note_passed(test: str, digest: str) -> None:
    """Note that a test passed with files of this hash."""
    PASSED.mkdir(parents=True, exist_ok=True)
    note = {"test": test, "digest": digest, "day": date.today().isoformat()}
    _note(test).write_text(json.dumps(note), encoding="utf-8")


def _note(test: str) -> Path:
    return PASSED / f"{hashlib.sha256(test.encode()).hexdigest()[:16]}.json"


def _beside(test: Path) -> list[Path]:
    """What lies in a test's folder for several tests, and the settings of the folders above."""
    shared = [
        path
        for path in test.parent.iterdir()
        if path.is_file() and not path.name.startswith("test_") and path.suffix in (".py", ".js")
    ]
    above = [folder / "conftest.py" for folder in test.parent.parents]
    return shared + [path for path in above if path.is_file() and path.is_relative_to(ROOT)]


@functools.cache
def _brought_by(path: Path) -> list[Path]:
    """What a module or a notebook depends on; nothing for other files."""
    if path.suffix == ".ipynb":
        return [ROOT / name for name in code_files(notebook_code(path))]
    if path.suffix != ".py":
        return []
    code = module_code(path)
    names = code_files(code)
    if path.is_relative_to(ROOT / "tests"):
        names += module_files(*MODULE.findall(path.read_text(encoding="utf-8")))
    brought = [ROOT / name for name in names]
    if ROOT / "workflow" / "chapters.py" in brought:
        brought.append(CHAPTERS)
    return brought + _helpers(path.parent, code.imports)


def _helpers(folder: Path, names: Iterable[str]) -> list[Path]:
    """The tests' own modules among names that a file in this folder imports."""
    paths = {
        place.joinpath(*parts[:end]).with_suffix(".py")
        for place in (folder, *HELPERS)
        for parts in (name.split(".") for name in names)
        for end in range(1, len(parts) + 1)
    }
    return [path for path in paths if path.is_file()]


def _patterns(mark: pytest.Mark, parameters: Mapping[str, Any]) -> list[str]:
    return [pattern.format(**parameters) for pattern in mark.args]


def _digest(item: pytest.Item) -> str | None:
    """The hash of what a test depends on; None for one that does not say that it may be skipped."""
    mark = item.get_closest_marker(MARK)
    if mark is None:
        return None
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return digest_of(files_of(item.path, _patterns(mark, parameters)))


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers", f"{MARK}(*files): skipped where nothing has changed since it passed here"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what passed and has not changed."""
    if not MAY_SKIP:
        return
    for item in items:
        digest = _digest(item)
        if digest is None:
            continue
        item.stash[DIGEST] = digest
        if day := passed_on(item.nodeid, digest):
            reason = f"unchanged since it passed here on {day}; ADDLIB_TEST=all skips nothing"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a test that passed to its end, unless its files were changed while it ran."""
    report = yield
    if report.when == "call":
        item.stash[CALL_PASSED] = report.passed
    ended = report.when == "teardown" and report.passed and item.stash.get(CALL_PASSED, False)
    if ended and DIGEST in item.stash:
        _brought_by.cache_clear()
        if _digest(item) == item.stash[DIGEST]:
            note_passed(item.nodeid, item.stash[DIGEST])
    return report

"""A chapter and a claim made as CONTRIBUTING.md says: they run, are recorded and get their pages.

The recipe's steps are read from the page: what it does not name is not done here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from checkout import copy_checkout
from workflow.chapters import ROOT
from workflow.notebook_cells import has_tag

pytestmark = pytest.mark.depends_on(
    "CONTRIBUTING.md",
    "Makefile",
    "README.md",
    "_toc.yml",
    "book/*",
    "notebooks/01_setup.ipynb",
    "workflow/**/*",
    "tests/notebooks/**/*.py",
)

NAME = "99_units_carry"

TITLE = "How often does the units column carry?"

CLAIM = {
    "id": "99.units-carry",
    "statement": "The units column makes a carry in 45% of the sums.",
    "source": "this chapter",
    "metric": "share of sums in which the units column carries",
    "unit": "share",
    "threshold": "in [0.44, 0.46]",
    "kind": "claim",
}
"""What the page asks of a claim, and what is answered here."""

ENTRY = {
    "title": TITLE,
    "part": "Appendix",
    "run time": "5 s",
    "weights": [],
    "smoke parameters": {"sample": 1000},
}
"""The same of a chapter's entry."""

FAULT = '    "{}": Fault("addlib.tasks.addition", "Questions.carry", carry_from_nine),\n}}\n'

EXPERIMENT = """\
import torch

from addlib.claims.ledger import Ledger
from addlib.device import choose_device
from addlib.notebook import table
from addlib.tasks.addition import AdditionTask
from addlib.tasks.sampling import uniform_questions

task = AdditionTask(n_digits)
device = choose_device(device)
claims = Ledger("99_units_carry", device=device, seed=seed)
questions = uniform_questions(task, sample, torch.Generator().manual_seed(seed))
share = questions.carry[:, 1].double().mean().item()
"""


def section(title: str) -> str:
    """A section of CONTRIBUTING.md, its line breaks as spaces."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return " ".join(text.split(f"\n## {title}\n")[1].split("\n## ")[0].split())


def asked(pattern: str, title: str) -> list[str]:
    """The words of a list in a section."""
    return re.search(pattern, section(title))[1].split(", ")


def started_with(source: str, first: NotebookNode) -> NotebookNode:
    """The cell of chapter 01 that begins like this."""
    return next(cell for cell in first.cells if cell.source.startswith(source))


def tagged(tag: str, first: NotebookNode) -> NotebookNode:
    return next(cell for cell in first.cells if has_tag(cell, tag))


def hidden(source: str, *tags: str) -> NotebookNode:
    cell = new_code_cell(source)
    cell.metadata["tags"] = list(tags)
    if source.startswith("%%"):
        cell.metadata["jupyter"] = {"source_hidden": True}
    return cell


def chapter(first: NotebookNode) -> NotebookNode:
    """A notebook with the first and the last cells of chapter 01, and an experiment between."""
    parameters = tagged("parameters", first)
    lines = {line.split()[0]: line for line in parameters.source.splitlines()}
    parameters.source = "\n".join(lines[name] for name in ("n_digits", "sample", "seed", "device"))
    measure = f'claims.measure("{CLAIM["id"]}", share)\nfewer = share < 0.5'
    compared = [
        tagged("nbval-check-output", first),
        hidden(
            'print("fewer than half" if fewer else "most")', "nbval-check-output", "remove-cell"
        ),
    ]
    first.cells = [
        new_markdown_cell(f"# 99 · {TITLE}"),
        tagged("setup", first),
        hidden("%%opening\nThe units column carries in {share:.0%} of the sums.", "remove-input"),
        started_with("**You need**", first),
        parameters,
        hidden(EXPERIMENT, "hide-input"),
        hidden(
            f"%%prediction {CLAIM['id']}\nTwo random digits add up to ten or more.", "remove-input"
        ),
        hidden(measure, "hide-input"),
        hidden("%%reading\nIt carries in {share:.1%} of them.", "remove-input"),
        hidden("%%summary\nThe units column carries in {share:.0%} of the sums.", "remove-input"),
        tagged("claims", first),
        *compared,
    ]
    return first


class Copy:
    """A copy of the checkout in which a contributor works."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_checkout(folder)

    def run(self, *command: str, **environment: str) -> str:
        """Run a module; what it prints. Its exit status must be 0."""
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("ADDLIB_", "PYTEST_"))
        }
        inherited |= {"ADDLIB_CACHE": str(self.folder / "weights"), "PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=inherited | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def change(self, name: str, old: str, new: str) -> None:
        """Put a text in the place of the only one like it in a file."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, (name, old)
        path.write_text(text.replace(old, new), encoding="utf-8")

    def append(self, name: str, content: object) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write("\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The copy with a new chapter and its claim, as the page's steps say, executed and stored."""
    copy = Copy(tmp_path_factory.mktemp("contributor") / "book")
    first = nbformat.read(copy.folder / "notebooks" / "01_setup.ipynb", as_version=4)
    path = copy.folder / "notebooks" / f"{NAME}.ipynb"
    nbformat.write(chapter(first), path)

    fields = asked(r"in `workflow/chapters.yml` \(([^;]*);", "Add a chapter")
    keys = {"run time": "run_time", "smoke parameters": "smoke"}
    entry = {keys.get(field, field): ENTRY[field] for field in fields}
    copy.append("workflow/chapters.yml", {NAME: entry})
    contents = (copy.folder / "_toc.yml").read_text(encoding="utf-8")
    last = re.findall(r" +- file: notebooks/.*\n", contents)[-1]
    copy.change("_toc.yml", last, f"{last}      - file: notebooks/{NAME}\n")

    fields = asked(r"below its chapter: ([^.]*)\.", "Add a claim")
    declared = {field: CLAIM[field] for field in fields if field != "id"}
    copy.append("book/claims.yml", {NAME: {CLAIM["id"]: declared}})

    copy.change(
        "tests/notebooks/perturbations/wrong.py",
        "\n}\n\n\ndef spoil(",
        f"\n{FAULT.format(NAME)}\n\ndef spoil(",
    )
    for module in made_by("stamp"):
        copy.run(module)
    copy.run("workflow.execute", NAME)
    (store,) = made_by("notebooks")
    stored = (
        "import nbformat, sys; from workflow.chapters import Results, chapters; "
        f"from {store} import committed_form; chapter = chapters()[sys.argv[1]]; "
        "executed = nbformat.read(Results.default().executed(chapter.name), as_version=4); "
        "nbformat.write(committed_form(executed), chapter.notebook)"
    )
    (copy.folder / "store_one.py").write_text(stored, encoding="utf-8")
    copy.run("store_one", NAME)
    return copy


def made_by(target: str) -> list[str]:
    """The modules that a target of the Makefile runs, which the page must name."""
    assert f"`make {target}`" in section("Add a chapter")
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = text.split(f"\n{target}: ")[1].split("\n\n")[0]
    return re.findall(r"python -m (workflow\.\w+)", recipe)


def test_the_new_chapter_has_the_form_of_all_and_sees_what_is_wrong(copy: Copy) -> None:
    said = copy.run(
        *(
            "pytest",
            "-q",
            "tests/notebooks",
            "-k",
            f"{NAME} or made_wrong",
            "-p",
            "no:cacheprovider",
        ),
        ADDLIB_TEST="full",
    )
    passed = int(re.search(r"(\d+) passed", said)[1])
    assert passed > 15
    assert "skipped" not in said


def test_the_new_chapter_gets_its_page_and_its_claim_a_line(copy: Copy) -> None:
    copy.run("addlib.claims.ledger", "collect")
    copy.run("workflow.stage_site", "--tolerant")
    stage = copy.folder / "_build" / "stage"
    staged = nbformat.read(stage / "notebooks" / f"{NAME}.ipynb", as_version=4)
    assert staged.cells[0].source == f"# 99 · {TITLE}"
    assert any(CLAIM["id"] in cell.source for cell in staged.cells)
    claims = (stage / "book" / "_generated" / "claims.md").read_text(encoding="utf-8")
    assert CLAIM["statement"] in claims


def test_readme_lists_the_new_chapter(copy: Copy) -> None:
    readme = (copy.folder / "README.md").read_text(encoding="utf-8")
    assert f"| [{NAME}](notebooks/{NAME}.ipynb) | {TITLE} | 5 s |" in readme

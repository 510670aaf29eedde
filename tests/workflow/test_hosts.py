"""Other hosts: the setup cell on a machine without the book, and the address that it installs.

The machine is a virtual environment with a stub of `google.colab`, torch and a kernel, but no
`addlib`. In every test run it also sees the book's other libraries, so that one notebook takes
seconds and no network. In the full run (`make test-full`) everything but torch and the kernel comes
over the network, as on a notebook service, and every notebook installs the package for itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from checkout import copy_checkout
from runs import FULL
from throwaway_book import Book
from workflow import stamp_address
from workflow.carried import carried
from workflow.chapters import chapters

CHAPTERS = chapters() if FULL else {"01_setup": chapters()["01_setup"]}

PROBE = """
import json, addlib, addlib.notebook, plotly.io, torch
print("PROBE", json.dumps([addlib.__file__, torch.__version__, torch.__file__, addlib.figures.page.in_colab(),
                           plotly.io.renderers.default]))
"""


class Host:
    """A machine with torch, a kernel and Colab's module, and a clone of the book."""

    def __init__(self, folder: Path, with_libraries: bool) -> None:
        self.folder, self.python = folder, folder / "env" / "bin" / "python"
        self.repository = clone_of_the_book(folder / "book")
        venv.create(folder / "env", with_pip=not with_libraries, symlinks=True)
        self.packages = next((folder / "env" / "lib").glob("python*/site-packages"))
        (self.packages / "google" / "colab").mkdir(parents=True)
        (self.packages / "google" / "colab" / "__init__.py").touch()
        libraries = Path(sysconfig.get_path("purelib"))
        if with_libraries:
            # .pth files of that folder don't count, so this checkout's package stays out of sight
            (self.packages / "libraries.pth").write_text(f"{libraries}\n")
        else:
            link_packages("torch", "ipykernel", into=self.packages)
        kernel = folder / "jupyter" / "kernels" / "host"
        kernel.mkdir(parents=True)
        command = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (kernel / "kernel.json").write_text(
            json.dumps({"argv": command, "display_name": "host", "language": "python"})
        )
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("ADDLIB_", "PYTHON", "PIP_"))
        } | {
            "JUPYTER_PATH": str(folder / "jupyter"),
            "ADDLIB_CACHE": str(folder / "weights"),
            "ADDLIB_SMOKE": "1",
            "COLAB_NOTEBOOK_ID": "a-notebook",
        }
        if with_libraries:  # the build's own tools are there too; nothing is fetched
            self.environment |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        else:  # where this machine's pip finds packages is how it is set up, not a part of the test
            self.environment |= {
                key: value for key, value in os.environ.items() if key.startswith("PIP_")
            }

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*map(str, command)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def forget_the_package(self) -> None:
        """What an earlier notebook has installed."""
        if list(self.packages.glob("addlib*")):
            assert (
                self.run(
                    self.python, "-m", "pip", "uninstall", "--quiet", "--yes", "addlib"
                ).returncode
                == 0
            )
        assert self.run(self.python, "-c", "import addlib").returncode == 1

    def execute(self, name: str, wheel: Path | None = None) -> nbformat.NotebookNode:
        """Run a notebook's smoke and one cell more, which tells what was imported from where.

        With a wheel it is the copy that carries it.
        """
        self.forget_the_package()
        notebook = nbformat.read(self.folder / "book" / "notebooks" / f"{name}.ipynb", as_version=4)
        if wheel:
            notebook = carried(notebook, wheel)
        notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
        shutil.rmtree(self.folder / "content", ignore_errors=True)
        (self.folder / "content").mkdir()
        copy, executed = self.folder / "content" / f"{name}.ipynb", self.folder / f"{name}.ipynb"
        nbformat.write(notebook, copy)
        parameters = json.dumps(chapters()[name].smoke)
        done = self.run(
            *(
                sys.executable,
                "-m",
                "papermill",
                copy,
                executed,
                "--kernel",
                "host",
                "--parameters_yaml",
                parameters,
            ),
            *("--cwd", copy.parent, "--no-progress-bar"),
        )
        notebook = nbformat.read(executed, as_version=4)
        said = [
            output.text
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if "text" in output
        ]
        assert done.returncode == 0, "".join(said)[-3000:] + done.stderr[-6000:]
        return notebook


def clone_of_the_book(folder: Path) -> str:
    """The address of a repository with this checkout's files, stamped with that address."""
    copy_checkout(folder)
    address = folder.as_uri()
    stamped = subprocess.run(
        [sys.executable, "-m", "workflow.stamp_address", "--repository", address],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stamped.returncode == 0, stamped.stderr
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--all"],
        ["commit", "--quiet", "-m", "all"],
    ):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return address


def link_packages(*names: str, into: Path) -> None:
    """Put installed packages and all that they need into another environment, if possible linked."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        waiting += [
            r.name
            for r in map(Requirement, package.requires or [])
            if not r.marker or r.marker.evaluate()
        ]
        for file in package.files or []:
            source, target = Path(package.locate_file(file)), into / file
            if ".." in file.parts or file.suffix == ".pyc" or not source.is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(source)
            except FileExistsError:
                pass
            except OSError:
                shutil.copy2(source, target)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    yield Host(folder, with_libraries=not FULL)
    shutil.rmtree(folder)


@pytest.mark.depends_on("notebooks/{name}.ipynb", "workflow/stamp_address.py", "README.md")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_notebook_installs_the_package_and_runs_on_a_machine_without_it(
    host: Host, name: str
) -> None:
    """From a git+file:// address; torch stays the platform's, figures come as Colab shows them."""
    notebook = host.execute(name)
    texts = [
        output.text
        for cell in notebook.cells[-1:]
        for output in cell.outputs
        if output.output_type == "stream"
    ]
    package, version, torch_file, colab, renderer = json.loads("".join(texts).split("PROBE ")[1])
    assert Path(package).is_relative_to(host.packages)
    assert version == metadata.version("torch")
    assert Path(torch_file).is_relative_to(
        host.packages if FULL else Path(sysconfig.get_path("purelib"))
    )
    assert (colab, renderer) == (True, "addlib")
    shown = [
        output.data
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    assert any("text/html" in data for data in shown)
    assert not any("application/vnd.plotly.v1+json" in data for data in shown)


@pytest.mark.depends_on("notebooks/{name}.ipynb", "workflow/carried.py", "README.md")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_carried_chapter_brings_the_package_and_runs(host: Host, name: str, wheel: Path) -> None:
    """No address is stamped into it, and the repository is out of sight."""
    notebook = host.execute(name, wheel)
    assert not any("git+" in cell.source for cell in notebook.cells)
    said = "".join(output.text for output in notebook.cells[-1].outputs if "text" in output)
    package, version, *_ = json.loads(said.split("PROBE ")[1])
    assert Path(package).is_relative_to(host.packages)
    assert version == metadata.version("torch")


# ------------------------------------------------------------------- the address
def run_setup(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a setup cell where nothing but the standard library can be imported."""
    command = [sys.executable, "-I", "-S", "-c", source]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_without_an_address_the_setup_cell_says_what_to_do_and_installs_nothing(tmp_path):
    done = run_setup(stamp_address.SETUP.format(repository="", options=""), tmp_path)
    assert done.returncode == 1
    said = "addlib is missing: clone the book and run `pip install -e .` there.\n"
    assert done.stderr == said
    assert done.stdout == ""


def test_a_failed_installation_is_not_passed_over(tmp_path):
    done = run_setup(
        stamp_address.SETUP.format(repository="file:///nowhere@main", options=""), tmp_path
    )
    assert done.returncode == 1
    assert "CalledProcessError" in done.stderr


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A throw-away book with the address line in its configuration, which the stamping works on."""
    book = Book(tmp_path)
    text = (tmp_path / "_config.yml").read_text()
    book.write(
        "_config.yml",
        f'{text}launch_buttons:\n  thebe: false\nrepository:\n  url: ""  # nobody yet\n  branch: main\n',
    )
    for name in ("01_first", "02_second"):
        book.chapter(name, "print(steps)")
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.insert(
            1, nbformat.v4.new_code_cell("old", id="setup", metadata={"tags": ["setup"]})
        )
        nbformat.write(notebook, path)
    monkeypatch.setattr(stamp_address, "ROOT", tmp_path)
    return book


def test_stamping_writes_the_address_everywhere_and_touches_nothing_else(book):
    path = book.root / "notebooks" / "01_first.ipynb"
    time, before = path.stat().st_mtime_ns, nbformat.read(path, as_version=4)
    stamp_address.write_address("https://github.com/me/book/")
    assert len(stamp_address.stamp_all()) == 2
    after = nbformat.read(path, as_version=4)
    assert 'repository = "https://github.com/me/book@main"' in after.cells[1].source
    released = "https://github.com/me/book/releases/latest/download"
    assert after.cells[1].source.endswith(f'setup(released="{released}")')
    assert [c for i, c in enumerate(after.cells) if i != 1] == [
        c for i, c in enumerate(before.cells) if i != 1
    ]
    assert path.stat().st_mtime_ns == time
    assert (
        'url: "https://github.com/me/book"  # nobody yet' in (book.root / "_config.yml").read_text()
    )
    assert stamp_address.stamp_all() == []
    stamp_address.write_address("")
    assert len(stamp_address.stamp_all()) == 2
    assert 'repository = ""' in nbformat.read(path, as_version=4).cells[1].source


def test_a_notebook_that_only_looks_otherwise_is_left_as_it_is(book):
    """An editor may order keys otherwise, or indent."""
    stamp_address.stamp_all()
    path = book.root / "notebooks" / "01_first.ipynb"
    content = json.loads(path.read_text())
    text = json.dumps(dict(reversed(content.items())), indent=3)
    path.write_text(text)
    assert stamp_address.stamp_all() == []
    assert path.read_text() == text
    stamp_address.write_address("https://github.com/me/book")
    assert str(path) in stamp_address.stamp_all()


@pytest.mark.parametrize(
    "address", ["github.com/me/book", "https://", 'https://x" + y', "https://x/{version}", "a b"]
)
def test_what_is_no_address_is_refused(book, address):
    with pytest.raises(stamp_address.WorkflowError, match="must read like https://github"):
        stamp_address.write_address(address)


def test_a_notebook_without_a_setup_cell_is_refused_and_none_is_changed(book):
    path = book.root / "notebooks" / "01_first.ipynb"
    before = path.read_text()
    book.chapter("02_second", "print(steps)")
    with pytest.raises(
        stamp_address.WorkflowError, match=r"02_second\.ipynb has 0 cells with the tag 'setup'"
    ):
        stamp_address.stamp_all()
    assert path.read_text() == before


def test_pages_have_a_colab_button_only_where_there_is_an_address(book):
    config = (book.root / "_config.yml").read_text()
    assert stamp_address.site_config(config) == config
    stamp_address.write_address("file:///srv/book")
    # Colab opens GitHub's notebooks only
    assert stamp_address.COLAB not in stamp_address.site_config(config)
    stamp_address.write_address("https://github.com/me/book")
    for script in ("stage_site", "build_site"):
        done = book.run("-m", f"workflow.{script}")
        assert done.status == 0, done.text
    assert f"{stamp_address.COLAB}/github/me/book/blob/main/notebooks/01_first.ipynb" in book.page(
        "notebooks/01_first"
    )

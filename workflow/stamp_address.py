"""Writes the book's address into every notebook: `make stamp REPOSITORY=https://github.com/me/book`.

    python -m workflow.stamp_address                   the address that _config.yml has
    python -m workflow.stamp_address --repository URL  a new one, into _config.yml too; "" for none

The address stands in _config.yml once. Where it is a GitHub repository, pages get a Colab button,
the setup cell installs the package from it on machines that lack the package, and trainings that
its latest release has are fetched (`workflow.release`). Without one, the
cell says what to do instead: nothing may be installed from a name that nobody here owns. No result
depends on the address, so no chapter runs again.
"""

from __future__ import annotations

import argparse
import re
import sys

import yaml
from nbformat import NotebookNode

from addlib.files import write_whole
from workflow.chapters import ROOT, WorkflowError, shown
from workflow.notebook_cells import has_tag, read_committed, write_back

SETUP = """\
import subprocess
import sys
from importlib import metadata, util

# Colab, or another machine that has torch and not the book
if util.find_spec("addlib") is None:
    repository = "{repository}"  # written by `make stamp`
    if not repository:
        sys.exit("addlib is missing: clone the book and run `pip install -e .` there.")
    keep = [f"torch=={{metadata.version('torch')}}"] if util.find_spec("torch") else []
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"git+{{repository}}", *keep], check=True)
from addlib.notebook import setup

setup({options})"""
"""The setup cell of every notebook."""

ADDRESS = re.compile(r"(https|ssh|file)://[^\s\"'\\@{}]+")

CONFIG = re.compile(r'(?m)^(repository:\n(?:  .*\n)*?  url: )"([^"]*)"')
"""The line of _config.yml that holds the address, in its section."""

GITHUB = "https://github.com/"

COLAB = "https://colab.research.google.com"


def address() -> tuple[str, str]:
    """The repository's address, empty where nobody owns one, and its branch."""
    section = (
        yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8")).get("repository") or {}
    )
    return section.get("url") or "", section.get("branch") or "master"  # Jupyter Book's default


def write_address(url: str) -> None:
    """Put another address into _config.yml.

    Raises:
        WorkflowError: the address is of another form, or _config.yml has no place for it.
    """
    if url and not ADDRESS.fullmatch(url):
        raise WorkflowError(f"REPOSITORY={url}: must read like https://github.com/owner/name")
    path = ROOT / "_config.yml"
    text, places = CONFIG.subn(
        lambda match: f'{match[1]}"{url.removesuffix("/")}"', path.read_text(encoding="utf-8")
    )
    if places != 1:
        raise WorkflowError(f'{path.name} must have one line `  url: "..."` below `repository:`')
    write_whole(path, text.encode())


def setup_options() -> str:
    """What a notebook calls `setup` with: where trainings of the latest release are, on GitHub."""
    url, _ = address()
    return f'released="{url}/releases/latest/download"' if url.startswith(GITHUB) else ""


def setup_source() -> str:
    """The setup cell with the address of _config.yml."""
    url, branch = address()
    return SETUP.format(repository=f"{url}@{branch}" if url else "", options=setup_options())


def stamp(notebook: NotebookNode) -> int:
    """Write the notebook's setup cells anew; how many there are."""
    cells = [cell for cell in notebook.cells if has_tag(cell, "setup")]
    for cell in cells:
        cell.source = setup_source()
    return len(cells)


def stamp_all() -> list[str]:
    """Write the setup cell of every notebook anew; the names of those that changed.

    Raises:
        WorkflowError: a notebook has not just one cell with the tag "setup". No notebook was
            changed then.
    """
    notebooks = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = read_committed(path)
        if (count := stamp(notebook)) != 1:
            raise WorkflowError(f"{shown(path)} has {count} cells with the tag 'setup': must be 1")
        notebooks[path] = notebook
    return [shown(path) for path, notebook in notebooks.items() if write_back(path, notebook)]


def site_config(text: str) -> str:
    """The site's _config.yml: the book's own, with Colab buttons where the address is GitHub's."""
    if not address()[0].startswith(GITHUB):
        return text
    return text.replace("launch_buttons:\n", f"launch_buttons:\n  colab_url: {COLAB}\n", 1)


def main() -> int:
    """Command line; the exit status is 2 for a request that was refused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repository", help='the new address; "" for none (default: the one in _config.yml)'
    )
    options = parser.parse_args()
    try:
        if options.repository is not None:
            write_address(options.repository)
        changed = stamp_all()
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    url, branch = address()
    print(
        f"Address: {url}, branch {branch}."
        if url
        else "The book has no address: setup cells say what to do."
    )
    print("\n".join([f"{len(changed)} notebooks changed.", *changed]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

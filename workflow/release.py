"""Makes the files of a release: trained models with a card each, executed chapters, the package.

    python -m workflow.release             from results/ and the cache, into _build/release
    python -m workflow.release --to FOLDER

A model that is not in the cache is not trained for it. ``SHA256SUMS`` lists every file. The whole
trainings are there, too, as archives that notebooks fetch where the book's address is GitHub's: the
release must be the latest one there.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from workflow.carried import build_wheel
from workflow.chapters import ROOT, Results, WorkflowError, chapters, shown


def release(results: Results, target: Path) -> list[Path]:
    """Fill a folder anew; its files, those of the models first.

    Raises:
        WorkflowError: a chapter or a model has not been made.
    """
    from addlib.store import sha256  # here, since torch takes seconds
    from addlib.training.exported import export
    from addlib.training.released import pack
    from addlib.training.runs import RUNS, is_there, load_or_train

    missing = [name for name in chapters() if not results.executed(name).is_file()]
    missing += [name for name, config in RUNS.items() if not is_there(config)]
    if missing:
        raise WorkflowError(f"not made yet: {', '.join(missing)}; `make book` makes them")
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for name, config in RUNS.items():
        export(load_or_train(config, "cpu"), target, name)
        pack(config.folder, target)
    for name in chapters():
        shutil.copy(results.executed(name), target / f"{name}.ipynb")
    build_wheel(target)
    files = sorted(target.iterdir(), key=lambda path: (path.suffix == ".ipynb", path.name))
    sums = "".join(f"{sha256(path)}  {path.name}\n" for path in files)
    (target / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return files


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--to", type=Path, default=ROOT / "_build" / "release", help="folder to fill"
    )
    parser.add_argument("--results", type=Path, help="folder with the runs (default: results)")
    options = parser.parse_args()
    results = Results(options.results.resolve()) if options.results else Results.default()
    try:
        files = release(results, options.to)
    except WorkflowError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{len(files)} files in {shown(options.to.resolve())}.")


if __name__ == "__main__":
    main()

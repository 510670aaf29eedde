"""A revision of a repository on the Hugging Face hub, in the hub's own cache.

What is missing there is downloaded by a process that runs this module, so that it can be ended
(:mod:`addlib.llm.downloads`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from addlib.files import PACKAGE
from addlib.llm.downloads import run_download

HUB_SECONDS = 5.0
"""How long to wait for the hub's first answer, and for what it says of a file."""


HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
"""The files that a language model is loaded from."""


def cached(repository: str, revision: str) -> Path | None:
    """The folder of a revision in the hub's cache, if there is one; it may lack files."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=HUB_FILES, local_files_only=True
        )
    except OSError:
        return None
    return Path(folder)


def fetch(repository: str, revision: str) -> Path:
    """Download what the hub's cache lacks of a revision, and return the revision's folder there.

    A later call goes on after the last finished file of one that failed.

    Raises:
        OSError: the hub can't be reached, does not give the revision, or stops giving it: a
            TimeoutError after :data:`~addlib.llm.downloads.STALL_SECONDS` without a byte.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    print(f"Fetching {repository} from the Hugging Face hub.", flush=True)
    cache = Path(constants.HF_HUB_CACHE)
    folder = cache / repo_folder_name(repo_id=repository, repo_type="model")
    paths = [str(PACKAGE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {
        "HF_ENDPOINT": constants.ENDPOINT,
        "HF_HUB_CACHE": str(cache),
        # Xet, the other way to the same files, waits for its key without a time limit; plain HTTP
        # has one, and goes on in the middle of a file.
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [sys.executable, "-P", "-m", "addlib.llm.hub", repository, revision]
    cache.mkdir(parents=True, exist_ok=True)
    # One process at a time: those that are ended remove all unfinished files.
    with FileLock(folder.with_suffix(".addlib.lock")), without_leftovers(folder):
        done = run_download(command, folder, environment)
    if done.returncode:
        said = done.stderr.strip() or "it ended without a word"
        raise OSError(said.splitlines()[-1])
    return Path(done.stdout.strip())


@contextmanager
def without_leftovers(folder: Path) -> Iterator[None]:
    """Remove the unfinished files of a download that had to be ended: the hub never uses them."""
    before = set(folder.rglob("*.incomplete"))
    try:
        yield
    except BaseException:
        for file in set(folder.rglob("*.incomplete")) - before:
            file.unlink(missing_ok=True)
        raise


def main() -> None:
    """What the process does: ``python -m addlib.llm.hub REPOSITORY REVISION`` prints the folder."""
    from huggingface_hub import HfApi, snapshot_download

    repository, revision = sys.argv[1:]
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=HUB_SECONDS)
        folder = snapshot_download(
            repository, revision=info.sha, allow_patterns=HUB_FILES, etag_timeout=HUB_SECONDS
        )
    # A network fails in many ways, and whichever it is, its reason is all that is wanted.
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
    print(folder)


if __name__ == "__main__":
    main()

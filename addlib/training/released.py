"""Finished runs that somebody has released: packed as one file each, and fetched by name.

``ADDLIB_RELEASED`` holds the address of the folder where the files lie; :func:`addlib.notebook.setup`
sets it in a notebook that ``make stamp`` has given one.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from addlib.files import write_whole
from addlib.store import CheckpointError, RunFolder

ADDRESS = "ADDLIB_RELEASED"

RECORD = "run.json"

MEMBER = re.compile(r"run\.json|history\.safetensors|weights-\d+\.safetensors")
"""The files of a finished run."""

PATIENCE_S = 30


def pack(folder: RunFolder, target: Path) -> Path:
    """One file with all that a finished run has, named after it and its key; about as large as it.

    Args:
        target: the folder to put it into.
    """
    path = target / f"{folder.path.name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.path.iterdir()):
            if MEMBER.fullmatch(file.name):
                archive.write(file, file.name)
    return path


def fetch(folder: RunFolder) -> bool:
    """Put a released run into the cache, if one is at the address; whether it is there now.

    Every file is checked as in :meth:`~addlib.store.RunFolder.read` before the run counts as
    finished. Where something is wrong a sentence says what, and nothing is kept. A training that
    has begun here goes on instead.
    """
    address = os.environ.get(ADDRESS, "")
    if not address:
        return False
    with folder.lock(), tempfile.TemporaryDirectory() as temporary:
        if any(folder.path.iterdir()):
            return folder.record() is not None
        packed = Path(temporary) / "run.zip"
        try:
            _download(f"{address.rstrip('/')}/{folder.path.name}.zip", packed)
            _unpack(packed, folder)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                print(f"No released {folder.path.name}: {error}; it is trained instead.")
        except (OSError, zipfile.BadZipFile, KeyError, CheckpointError) as error:
            print(f"The released {folder.path.name} can't be used: {error}; it is trained instead.")
        return folder.record() is not None


def _download(address: str, path: Path) -> None:
    from tqdm import tqdm

    with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
        size = int(answer.headers.get("Content-Length") or 0) or None
        name = address.rsplit("/", 1)[1]
        with (
            path.open("wb") as file,
            tqdm.wrapattr(answer, "read", total=size, desc=name) as counted,
        ):
            shutil.copyfileobj(counted, file)


def _unpack(packed: Path, folder: RunFolder) -> None:
    """Write a packed run's files, the record last, once all others have passed their checks."""
    with zipfile.ZipFile(packed) as archive:
        record = archive.read(RECORD)
        names = [name for name in archive.namelist() if MEMBER.fullmatch(name)]
        tensors = [name for name in names if name != RECORD]
        try:
            for name in tensors:
                archive.extract(name, folder.path)
                folder.read(name)
            write_whole(folder.path / RECORD, record)
            folder.record()
        except BaseException:
            for name in names:
                (folder.path / name).unlink(missing_ok=True)
            raise

"""Fetches the one package that comes from npm: onnxruntime-web, which runs the model on the live page.

    python workflow/npm_files.py       once, while the environment is set up; a second call does nothing

The version is pinned by name and by its hash. Only the files that the site needs are kept, beside the environment's
packages, so that building the site asks no network.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
ADDRESS = f"https://registry.npmjs.org/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"

FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""The smallest build: on the processor only. Its library, its loader, and the compiled runtime (14 MB, 3.7 packed)."""

FOLDER = Path(sys.prefix) / "share" / f"{PACKAGE}-{VERSION}"


def fetch(folder: Path = FOLDER, address: str = ADDRESS) -> Path:
    """The folder with the files, filled now where they are missing: all of them or none.

    Raises:
        OSError: the registry can't be reached. ValueError: what came is not the pinned package.
    """
    if folder.is_dir():
        return folder
    package = _download(address)
    found = "sha512-" + base64.b64encode(hashlib.sha512(package).digest()).decode()
    if found != INTEGRITY:
        raise ValueError(f"{address} is not the pinned package: its hash is {found}, not {INTEGRITY}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary, tarfile.open(fileobj=io.BytesIO(package)) as tar:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        for name in FILES:
            member = tar.extractfile(f"package/dist/{name}")
            assert member is not None, name
            (whole / name).write_bytes(member.read())
        whole.rename(folder)
    return folder


def _download(address: str) -> bytes:
    """Through npm, which knows the user's registry and proxies, where there is one; else from the address itself."""
    npm = shutil.which("npm")
    if npm and address == ADDRESS:
        with tempfile.TemporaryDirectory() as folder:
            command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
            done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            packed = Path(folder) / f"{PACKAGE}-{VERSION}.tgz"
            if done.returncode == 0 and packed.is_file():
                return packed.read_bytes()
    with urllib.request.urlopen(address, timeout=300) as answer:
        return answer.read()


def main() -> int:
    """Command line; the exit status is 1 where the package can't be had."""
    try:
        print(f"{PACKAGE}: {fetch()}")
    except (OSError, ValueError) as error:
        print(f"{PACKAGE} {VERSION} could not be fetched from npm: {error}", file=sys.stderr)
        print("Going on without: the live page says so. To try again: python workflow/npm_files.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

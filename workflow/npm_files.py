"""Fetches what comes from npm: the live page's runtime, and plotly.js without the kinds we don't draw.

    python -m workflow.npm_files    while the environment is set up; a second call does nothing

Versions are pinned by name and by hash. Only the files that the site needs are kept, beside the
environment's packages, so that building the site asks no network.
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
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NpmPackage:
    """A package of npm's registry."""

    name: str
    version: str
    integrity: str  # its hash, as the registry writes it
    files: tuple[str, ...]  # those that the site needs
    without: str  # what is so where they lack

    @property
    def folder(self) -> Path:
        """Where its files are kept."""
        return Path(sys.prefix) / "share" / f"{self.name}-{self.version}"

    @property
    def address(self) -> str:
        """Where the registry has it."""
        return f"https://registry.npmjs.org/{self.name}/-/{self.name}-{self.version}.tgz"


ONNX_RUNTIME = NpmPackage(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    ("dist/ort.wasm.min.js", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm"),
    "the live page says so",
)
"""The smallest build, for the processor: library, loader, compiled runtime (14 MB, 3.7 packed)."""

PLOTLY_CARTESIAN = NpmPackage(
    "plotly.js-cartesian-dist-min",
    "4.1.1",
    "sha512-o8GrFeusncwBIxbBynRJpY4pkgVB6caM+JLpwrLYbbsO7dZ8FJ+SVN2Fr+L7kiG/Z6w4P5O0Jus/Qr5EefHVeg==",
    ("plotly-cartesian.min.js",),
    "figures come a second later, with the whole of plotly.js",
)
"""A third of plotly.js (1.5 MB of 4.8), in the version that plotly brings itself."""

PACKAGES = (ONNX_RUNTIME, PLOTLY_CARTESIAN)


def fetch(package: NpmPackage, folder: Path | None = None, address: str | None = None) -> Path:
    """The folder with the files, filled now where they are missing: all of them or none.

    Raises:
        OSError: the registry can't be reached. ValueError: what came is not the pinned package.
    """
    folder = folder or package.folder
    if folder.is_dir():
        return folder
    packed = _read(address) if address else _download(package)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
    if integrity != package.integrity:
        raise ValueError(
            f"{package.name} is not the pinned package: its hash is {integrity}, not "
            f"{package.integrity}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent) as temporary,
        tarfile.open(fileobj=io.BytesIO(packed)) as tar,
    ):
        whole = Path(temporary) / "whole"
        whole.mkdir()
        for name in package.files:
            member = tar.extractfile(f"package/{name}")
            assert member is not None, name
            (whole / Path(name).name).write_bytes(member.read())
        whole.rename(folder)
    return folder


def _download(package: NpmPackage) -> bytes:
    """Through npm where it is there, since it knows the user's registry and proxies."""
    if npm := shutil.which("npm"):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                npm,
                "pack",
                f"{package.name}@{package.version}",
                "--silent",
                "--pack-destination",
                folder,
            ]
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
            packed = Path(folder) / f"{package.name}-{package.version}.tgz"
            if done.returncode == 0 and packed.is_file():
                return packed.read_bytes()
    return _read(package.address)


def _read(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=300) as answer:
        return answer.read()


def main() -> int:
    """Command line; the exit status is 1 where a package can't be had."""
    missing = 0
    for package in PACKAGES:
        try:
            print(f"{package.name}: {fetch(package)}")
        except (OSError, ValueError) as error:
            missing += 1
            print(
                f"{package.name} {package.version} could not be fetched from npm: {error}",
                file=sys.stderr,
            )
            print(f"Going on without: {package.without}.", file=sys.stderr)
    if missing:
        print("To try again: python -m workflow.npm_files", file=sys.stderr)
    return int(missing > 0)


if __name__ == "__main__":
    raise SystemExit(main())

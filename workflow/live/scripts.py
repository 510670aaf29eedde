"""Puts the live page's model and runtime among the site's scripts, or says that they are missing.

Both travel as scripts that hold gzipped, base64 text: a page that is opened from the disk may load
scripts, but may not fetch files.
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

from workflow.live.export_folder import read
from workflow.npm_files import ONNX_RUNTIME

SCRIPTS = "_scripts/live"

HTML = "_assets/live/live.html"

APP = """\
```{{raw}} html
{html}
```

The model is a file of {size:.1f} MB. Its weights are stored in {bits} bits and calculated with in 32; of {compared:,}
questions, {cascades} of them with cascades, the answers to {agreeing:,} agree with those of the model that the chapters
look at, in every digit. It runs on onnxruntime-web {version}.
"""

WITHOUT_MODEL = "The model has not been exported for this page yet. `make book` does it."
WITHOUT_RUNTIME = (
    f"{ONNX_RUNTIME.name} {ONNX_RUNTIME.version}, which runs the model, is not there. "
    "`python -m workflow.npm_files` fetches it."
)


def write(exported: Path, target: Path, runtime: Path = ONNX_RUNTIME.folder) -> bool:
    """Write the scripts, and the part of the page that needs them; whether the page can run.

    Args:
        exported: what `workflow.live.page_data` wrote.
        target: the staged book.
        runtime: the files of `npm_files`.
    """
    part = target / "book" / "_generated" / "live.md"
    part.parent.mkdir(exist_ok=True)
    export = read(exported)
    if export is None or not runtime.is_dir():
        note = WITHOUT_MODEL if export is None else WITHOUT_RUNTIME
        part.write_text(f"```{{warning}}\n{note}\n```\n", encoding="utf-8")
        return False
    data, page = export
    library, loader, wasm = (runtime / Path(name).name for name in ONNX_RUNTIME.files)
    scripts = target / SCRIPTS
    scripts.mkdir(parents=True)
    text = library.read_text(encoding="utf-8").split("//# sourceMappingURL")[0]  # no map is there
    (scripts / library.name).write_text(text, encoding="utf-8")
    _assign(
        scripts / "runtime.js",
        mjs=loader.read_text(encoding="utf-8"),
        wasm=_packed(wasm.read_bytes()),
    )
    _assign(scripts / "model.js", page=page, onnx=_packed(data))
    part.write_text(
        APP.format(
            html=(target / "book" / HTML).read_text(encoding="utf-8").strip(),
            size=len(data) / 1e6,
            bits=page["bits"],
            compared=page["compared"],
            cascades=f"{page['cascades']:,}",
            agreeing=page["agreeing"],
            version=ONNX_RUNTIME.version,
        ),
        encoding="utf-8",
    )
    return True


def _assign(path: Path, **values: object) -> None:
    path.write_text(
        f"addlibLive.{path.stem} = {json.dumps(values, ensure_ascii=False)};\n", encoding="utf-8"
    )


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()

"""The scripts that every page shares, copied from installed packages, so that the site opens with no network.

    python workflow/site_scripts.py TARGET      writes TARGET/_scripts/

They lie in a folder of their own: Jupyter Book adds every script it finds in ``_static/`` to every page.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from addlib.attention_view import circuitsvis_script

FOLDER = "_scripts"

MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2")
"""The MathJax 3.2 component that typesets TeX as HTML, and its fonts."""


def write(target: Path) -> Path:
    """Copy plotly.js, circuitsvis and MathJax to ``target/_scripts``; returns that folder.

    Raises:
        FileNotFoundError: a package lacks the script, or is not installed; the message names the package.
    """
    from plotly.offline import get_plotlyjs

    folder = target / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    (folder / "circuitsvis.js").write_text(circuitsvis_script(), encoding="utf-8")
    # The package's folder has a name that can't be imported; it only carries files.
    mathjax = Path(sysconfig.get_path("purelib")) / "sphinx-mathjax-offline/static/mathjax"
    for name in MATHJAX:
        source, copy = mathjax / name, folder / "mathjax" / name
        if not source.exists():
            raise FileNotFoundError(f"{source} is not there: pip install sphinx-mathjax-offline")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, dirs_exist_ok=True)
        else:
            shutil.copy(source, copy)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python workflow/site_scripts.py TARGET")
    print(write(Path(sys.argv[1])))

"""The scripts that every page shares, copied from packages: the site opens without a network.

They lie in a folder of their own, since Jupyter Book adds every script that it finds in
``_static/`` to every page.
"""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Collection
from pathlib import Path

from addlib.figures.attention import circuitsvis_script
from workflow.npm_files import PLOTLY_CARTESIAN

FOLDER = "_scripts"

MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2")
"""The MathJax 3.2 component that typesets TeX as HTML, and its fonts."""

CARTESIAN = frozenset(
    {"bar", "box", "contour", "heatmap", "histogram", "histogram2d", "histogram2dcontour"}
    | {"image", "pie", "scatter", "scatterternary", "violin"}
)
"""The kinds of trace that `npm_files.PLOTLY_CARTESIAN` draws (its README)."""


def write(
    target: Path, kinds: Collection[str] = CARTESIAN, cartesian: Path = PLOTLY_CARTESIAN.folder
) -> Path:
    """Copy plotly.js, circuitsvis and MathJax to ``target/_scripts``; returns that folder.

    Args:
        target: the staged book.
        kinds: the kinds of trace in the book's figures; the smaller plotly.js is taken where it
            draws them all.
        cartesian: the folder with the smaller plotly.js, if it was fetched.

    Raises:
        FileNotFoundError: a package lacks the script, or is not installed; the message names the
            package.
    """
    from plotly.offline import get_plotlyjs

    smaller = cartesian / PLOTLY_CARTESIAN.files[0]
    plotly = (
        smaller.read_text("utf-8")
        if smaller.is_file() and CARTESIAN.issuperset(kinds)
        else get_plotlyjs()
    )
    folder = target / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plotly.min.js").write_text(plotly, encoding="utf-8")
    (folder / "circuitsvis.js").write_text(circuitsvis_script(), encoding="utf-8")
    # The package's folder has a name that can't be imported; it only carries files.
    mathjax = Path(sysconfig.get_path("purelib")) / "sphinx-mathjax-offline/static/mathjax"
    for name in MATHJAX:
        source = mathjax / name
        copy = folder / "mathjax" / name
        if not source.exists():
            raise FileNotFoundError(f"{source} is not there: pip install sphinx-mathjax-offline")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, dirs_exist_ok=True)
        else:
            shutil.copy(source, copy)
    return folder

"""The figure on top of the first page: chapter 08's form, where a reader's own sum stands in the lattice."""

from __future__ import annotations

from nbformat import NotebookNode

CHAPTER = "08_carry_plane"

FORM = '<div class="addlib-carry"'

FIGURE = """\
```{{raw}} html
<figure class="addlib-figure" id="fig-foretell" role="group" aria-label="Foretell a mistake">
{form}
<figcaption><b>A sum is a point, and its mistakes can be foretold.</b> Type two numbers. A dot is a sum of the run, its
colour what the model wrote. Where both pairs sum to nine, the colours mix, and there the mistakes are. A program of
added-up numbers, without any network, says where your sum lies and which digit comes out wrong. <i>u less
threshold</i>: how far these numbers (u) are above the point from which it writes one more; near 0 it is least
sure.</figcaption>
</figure>
```
"""

NOT_YET = """\
```{note}
Here stands the lattice of [chapter 08](../notebooks/08_carry_plane.ipynb), with a sum of your choice in it, when that
chapter has run.
```
"""


def lattice_figure(notebook: NotebookNode) -> str:
    """MyST for the form that an executed chapter 08 has drawn, or for a note where it has not."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            drawn = output.get("data", {}).get("text/html", "")
            if drawn.startswith(FORM):
                return FIGURE.format(form=drawn)
    return NOT_YET

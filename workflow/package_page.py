"""Writes the page on the package: a section for each room of `addlib`, from the docstrings.

Sphinx's autosummary lists what a module offers; the full docstrings stand below, folded.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from workflow.chapters import ROOT

PACKAGE = ROOT / "addlib"


def package_page(package: Path = PACKAGE) -> str:
    """Markdown with the package's loose modules and its rooms, rooms in the alphabet's order."""
    loose = [path for path in sorted(package.glob("*.py")) if path.stem != "__init__"]
    rooms = sorted(path.parent for path in package.glob("*/__init__.py"))
    parts = []
    for room in rooms:
        sentence = ast.get_docstring(_parsed(room / "__init__.py")) or ""
        modules = [path for path in sorted(room.glob("*.py")) if path.stem != "__init__"]
        parts += [f"## {package.name}.{room.name}", sentence, *map(_module, modules)]
    parts += ["## Loose modules", "What every room may use.", *map(_module, loose)]
    return "\n\n".join(parts) + "\n"


def _module(path: Path) -> str:
    """A module's heading, the list of its public names, and its docstrings in a dropdown."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    names = "\n".join(f"   {member}" for member in _public(path))
    return f"""### {name}

```{{eval-rst}}
.. currentmodule:: {name}
.. autosummary::
   :nosignatures:

{names}
```

::::{{dropdown}} Signatures and docstrings
```{{eval-rst}}
.. automodule:: {name}
   :members:
   :member-order: bysource
```
::::"""


def _public(path: Path) -> Iterator[str]:
    """Public functions and classes in the order of the file."""
    for node in _parsed(path).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if not name.startswith("_"):
                yield name


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))

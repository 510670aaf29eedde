"""Checks parameters against those that a notebook declares, before anything runs.

A parameters cell holds plain literals, each with its unit and range in a trailing comment:
``n_digits = 5  # digits of each operand, 2 to 15``.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

import papermill

from workflow.chapters import Chapter, WorkflowError

NUMBER = r"(-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)"

RANGES = (
    rf"{NUMBER} to {NUMBER}",
    rf"at least {NUMBER}()",
    rf"{NUMBER}() or more",
    rf"above {NUMBER}()",
    rf"()at most {NUMBER}",
)


def check_parameters(chapter: Chapter, given: Mapping[str, Any]) -> None:
    """Compare the given parameters with those that the chapter's notebook declares.

    Raises:
        WorkflowError: an unknown name, a value of another type than the declared default, or one
            out of range.
    """
    declared = papermill.inspect_notebook(chapter.notebook)
    for name, value in given.items():
        if name not in declared:
            close = difflib.get_close_matches(name, declared, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            names = ", ".join(declared) or "none"
            raise WorkflowError(
                f"{chapter.name} has no parameter {name!r}.{hint} Declared parameters: {names}."
            )
        default = value_of(declared[name]["default"])
        comment = declared[name]["help"]
        if default is not None and not _fits(value, default):
            wanted = type(default).__name__
            raise WorkflowError(
                f"{chapter.name}: {name} = {value!r}: must be of type {wanted}, like {default!r}."
            )
        low, high = declared_range(comment)
        if isinstance(value, int | float) and not low <= value <= high:
            raise WorkflowError(f"{chapter.name}: {name} = {value!r}: out of range ({comment}).")


def declared_defaults(chapter: Chapter) -> dict[str, Any]:
    """The values that the chapter's notebook gives its parameters, by name."""
    declared = papermill.inspect_notebook(chapter.notebook)
    return {name: value_of(parameter["default"]) for name, parameter in declared.items()}


def declared_range(comment: str) -> tuple[float, float]:
    """The range that a parameter's comment states: ``2 to 15``, ``at least 1,000``, ``above 0``."""
    for pattern in RANGES:
        if ends := re.search(pattern, comment):
            low, high = ends.groups()
            low = float(low.replace(",", "")) if low else -math.inf
            high = float(high.replace(",", "")) if high else math.inf
            return math.nextafter(low, math.inf) if pattern.startswith("above") else low, high
    return -math.inf, math.inf


def value_of(text: str) -> Any:
    """A typed parameter: a Python literal, true, false or none; else the text itself."""
    words = {"true": True, "false": False, "none": None}
    try:
        return words[text.lower()] if text.lower() in words else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _fits(value: object, default: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, tuple | list):
        return isinstance(value, tuple | list)
    return type(value) is type(default)

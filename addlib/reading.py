"""Text with numbers from the run: fields as in Python's f-strings, and the condition it rests on."""

from __future__ import annotations

import ast
import math
import re
from typing import Any

ELSE = re.compile(r"^%%else[ \t]*\n?", re.MULTILINE)
"""The line between a text and what stands there where its condition does not hold."""


def filled(text: str, names: dict[str, Any]) -> str:
    """A text with its fields filled in: ``"The loss is {run.loss:.3f} nats."``

    A field is a Python expression, with a format after a colon. Braces of formulas are doubled.

    Args:
        text: any text without three double quotes in a row.
        names: what expressions may use: the variables of a notebook.

    Raises:
        ValueError: a field that can't be read or worked out, or gives None, NaN or infinity; the
            message names it.
    """
    return _joined(_parsed(text), names).strip()


def chosen(condition: str, text: str, names: dict[str, Any]) -> str:
    """The text, filled in, if its condition holds; else what stands after ``%%else``, or why not.

    Args:
        condition: a Python expression; empty for a text that rests on none.
        text: the text, and maybe a line ``%%else`` with another text below it.
        names: what condition and fields may use.

    Raises:
        ValueError: as :func:`filled`, for the condition too.
    """
    holds, *otherwise = ELSE.split(text)
    if len(otherwise) > 1 or (otherwise and not condition):
        raise ValueError("one %%else, and only below a text with a condition")
    if not condition or value_of(condition, names):
        return filled(holds, names)
    return filled(otherwise[0], names) if otherwise else _otherwise(condition, names)


def value_of(source: str, names: dict[str, Any]) -> Any:
    """What a Python expression gives.

    Raises:
        ValueError: it can't be read or worked out; the message names it.
    """
    return _value(_expression(source), names)


def _parsed(text: str) -> ast.JoinedStr:
    if '"""' in text:
        raise ValueError('the text has three double quotes in a row: """')
    try:
        return ast.parse(f'rf"""{text}\n"""', mode="eval").body
    except SyntaxError as error:
        raise ValueError(
            f"a field can't be read: {error.msg} (braces of a formula are doubled: {{{{ }}}})"
        ) from error


def _joined(parts: ast.JoinedStr, names: dict[str, Any]) -> str:
    return "".join(
        part.value if isinstance(part, ast.Constant) else _field(part, names)
        for part in parts.values
    )


def _field(field: ast.FormattedValue, names: dict[str, Any]) -> str:
    source = ast.unparse(field.value)
    value = _value(field.value, names)
    if value is None or (hasattr(value, "__float__") and not math.isfinite(value)):
        raise ValueError(f"{{{source}}} is {value}: the run gave no number for it")
    if field.conversion >= 0:
        value = {"r": repr, "s": str, "a": ascii}[chr(field.conversion)](value)
    try:
        text = format(value, _joined(field.format_spec, names) if field.format_spec else "")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{{{source}}} can't be written: {error}") from error
    if re.search(r"\b(nan|inf)\b", text):
        raise ValueError(f"{{{source}}} is {text}: the run gave no number for it")
    return text


def _expression(source: str) -> ast.expr:
    try:
        return ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{source!r} can't be read: {error.msg}") from error


def _value(expression: ast.expr, names: dict[str, Any]) -> Any:
    source = ast.unparse(expression)
    try:
        return eval(compile(ast.Expression(expression), "<reading>", "eval"), names)
    except NameError as error:
        raise ValueError(
            f"{{{source}}}: this notebook has no {error.name} (braces of a formula are doubled: "
            f"{{{{ }}}})"
        ) from error
    except Exception as error:
        raise ValueError(f"{{{source}}}: {type(error).__name__}: {error}") from error


def _otherwise(condition: str, names: dict[str, Any]) -> str:
    """What the page says where a condition does not hold: which, and the numbers compared."""
    expression = _expression(condition)
    compared = {}
    for comparison in ast.walk(expression):
        if isinstance(comparison, ast.Compare):
            for side in (comparison.left, *comparison.comparators):
                if not isinstance(side, ast.Constant):
                    compared[ast.unparse(side)] = _value(side, names)
    numbers = [
        f"`{source}` is {value:.3g}"
        for source, value in compared.items()
        if hasattr(value, "__float__")
    ]
    here = f"; here {', '.join(numbers)}" if numbers else "; here it doesn't hold"
    return f"> **Not so in this run.** What the book says here rests on `{condition}`{here}."

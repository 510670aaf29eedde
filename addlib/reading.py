"""Text with numbers from the run: fields as in Python's f-strings, and the condition it rests on."""

from __future__ import annotations

import ast
import builtins
import math
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from addlib.unknown import LeftOut, Unknown

ELSE = re.compile(r"^%%else[ \t]*\n?", re.MULTILINE)
"""The line between a text and what stands there where its condition does not hold."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def written(value: float) -> str:
    """Three digits, as people write them: 0.0158, 2,000, −3 or 2.4 × 10⁻⁶."""
    rounded = float(f"{value:.3g}")
    if rounded == 0 or 1e-3 <= abs(rounded) < 1e6:
        return f"{rounded:,.10g}".replace("-", "−")
    return _typeset(f"{rounded:.3g}" if abs(rounded) < 1e-3 else f"{rounded:.2e}")


def over_models(values: Sequence[float], form: str = ".1%") -> str:
    """The median over models and, where they differ, their range: ``98.0% (97.1% to 99.2%)``.

    Args:
        values: one per model. form: how each is written, as in an f-string.
    """
    low, middle, high = (
        _typeset(format(pick(values), form)) for pick in (min, statistics.median, max)
    )
    return middle if low == high else f"{middle} ({low} to {high})"


def filled(text: str, names: dict[str, Any]) -> str:
    """A text with its fields filled in: ``"The loss is {run.loss:.3f} nats."``

    A field is a Python expression, with a format after a colon; it may use `over_models`, `written` and
    ``median`` too. Braces of formulas are doubled.
    Numbers get a minus sign and powers of ten as people write them: −0.3, 2.7 × 10⁻⁶.

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


def names_used(text: str) -> set[str]:
    """The names of a notebook that a text's fields need, read from the text alone.

    Raises:
        ValueError: a field that can't be read.
    """
    return _free_names(_parsed(text))


def names_of(source: str) -> set[str]:
    """The names of a notebook that a Python expression needs.

    Raises:
        ValueError: it can't be read.
    """
    return _free_names(_expression(source))


FOR_FIELDS = {"median": statistics.median, "over_models": over_models, "written": written}
"""Functions that fields may use without a notebook's import of them."""


CONVERSIONS: dict[str, Callable[[object], str]] = {"r": repr, "s": str, "a": ascii}
"""What stands behind an exclamation mark in a field."""


def value_of(source: str, names: dict[str, Any]) -> Any:
    """What a Python expression gives.

    Raises:
        ValueError: it can't be read or worked out; the message names it.
    """
    return _value(_expression(source), names)


def _free_names(expression: ast.expr) -> set[str]:
    """The names that an expression reads and does not bind itself, as a comprehension does."""
    names = [node for node in ast.walk(expression) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(expression) if isinstance(node, ast.arg)}
    known = FOR_FIELDS.keys() | vars(builtins).keys()
    return {node.id for node in names} - bound - known


def _parsed(text: str) -> ast.expr:
    if '"""' in text:
        raise ValueError('the text has three double quotes in a row: """')
    try:
        return ast.parse(f'rf"""{text}\n"""', mode="eval").body
    except SyntaxError as error:
        raise ValueError(
            f"a field can't be read: {error.msg} (braces of a formula are doubled: {{{{ }}}})"
        ) from error


def _joined(text: ast.expr, names: dict[str, Any]) -> str:
    """The text of an f-string, or of a part of one."""
    match text:
        case ast.JoinedStr():
            return "".join(_joined(part, names) for part in text.values)
        case ast.FormattedValue():
            return _field(text, names)
    return ast.literal_eval(text)


def _field(field: ast.FormattedValue, names: dict[str, Any]) -> str:
    source = ast.unparse(field.value)
    value = _value(field.value, names)
    if isinstance(value, Unknown):
        return format(value)
    if value is None or (hasattr(value, "__float__") and not math.isfinite(value)):
        raise ValueError(f"{{{source}}} is {value}: the run gave no number for it")
    if field.conversion >= 0:
        value = CONVERSIONS[chr(field.conversion)](value)
    try:
        text = format(value, _joined(field.format_spec, names) if field.format_spec else "")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{{{source}}} can't be written: {error}") from error
    if re.search(r"\b(nan|inf)\b", text):
        raise ValueError(f"{{{source}}} is {text}: the run gave no number for it")
    return _typeset(text) if hasattr(value, "__float__") else text


def _typeset(number: str) -> str:
    """A number with a minus sign and a power of ten: −0.3, 2.7 × 10⁻⁶ for ``2.7e-06``.

    What is rounded to 0 has no sign: ``-0%`` is 0%.
    """
    mantissa, _, exponent = number.partition("e")
    if exponent.lstrip("+-").isdecimal():
        power = "10" + str(int(exponent)).translate(SUPERSCRIPTS)
        mantissa = f"{float(mantissa):g}"
        number = {"1": power, "-1": f"-{power}"}.get(mantissa, f"{mantissa} × {power}")
    unsigned = re.sub(r"^(\s*)[-+](?=0(\.0*)?%?$)", r"\1", number)
    return re.sub(r"^(\s*)-", r"\1−", unsigned).replace("100.0%", "100%")


def _expression(source: str) -> ast.expr:
    try:
        return ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{source!r} can't be read: {error.msg}") from error


def _value(expression: ast.expr, names: dict[str, Any]) -> Any:
    source = ast.unparse(expression)
    try:
        return eval(compile(ast.Expression(expression), "<reading>", "eval"), FOR_FIELDS | names)
    except NameError as error:
        raise ValueError(
            f"{{{source}}}: this notebook has no {error.name} (braces of a formula are doubled: "
            f"{{{{ }}}})"
        ) from error
    except LeftOut:
        raise
    except Exception as error:
        raise ValueError(f"{{{source}}}: {type(error).__name__}: {error}") from error


def _otherwise(condition: str, names: dict[str, Any]) -> str:
    """What the page says where a condition does not hold: which, and the numbers compared."""
    expression = _expression(condition)
    compared = {}
    for comparison in ast.walk(expression):
        if isinstance(comparison, ast.Compare):
            for side in (comparison.left, *comparison.comparators):
                # one of a comprehension has a value for each round, and none here
                if not isinstance(side, ast.Constant) and _free_names(side) <= names.keys():
                    compared[ast.unparse(side)] = _value(side, names)
    numbers = [
        f"`{source}` is {written(value)}"
        for source, value in compared.items()
        if hasattr(value, "__float__")
    ]
    here = f"; here {', '.join(numbers)}" if numbers else "; here it doesn't hold"
    return f"> **Not so in this run.** What the book says here rests on `{condition}`{here}."

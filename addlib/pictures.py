"""Hand-drawn SVG pictures of questions, in the palette of the plots; they follow the page's text
colour.
"""

from __future__ import annotations

from addlib.palette import COLOURS, tinted
from addlib.task import BUCKETS, Questions

CELL, ROW = 58, 40  # width of a column and height of a row, in SVG units
LEFT = 92  # room for the row names


def sum_picture(questions: Questions, index: int = 0) -> str:
    """One question written out as at school, each column tinted by its bucket.

    From top to bottom: the carry into each column, both operands, the sum, and the bucket's name
    under its column. The top answer digit has no pair of its own and stays untinted.

    Args:
        questions: a batch; the question at ``index`` is drawn.

    Returns:
        The text of one SVG element; text without a bucket takes the page's own colour.
    """
    n = questions.task.n_digits
    width, height = LEFT + (n + 1) * CELL + 8, 5 * ROW + 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="ui-monospace, monospace" '
        f'font-size="22" text-anchor="middle" fill="currentColor" style="width:100%;max-width:{width}px;height:auto">'
    ]
    for row, name in enumerate(["carry in", "first", "second", "sum"]):
        parts.append(_text(LEFT - 14, row, name, 14, "end"))
    for column in range(n + 1):
        x = LEFT + (n - column) * CELL + CELL / 2
        carry, digit = questions.carry[index, column].item(), questions.answer[index, column].item()
        if column < n:
            bucket = BUCKETS[questions.bucket[index, column]]
            colour = COLOURS[bucket]
            parts.append(
                f'<rect x="{x - CELL / 2 + 3}" y="6" width="{CELL - 6}" height="{5 * ROW + 14}" rx="8" '
                f'fill="{tinted(colour, 0.16)}" stroke="{colour}" stroke-width="1.5"/>'
            )
            parts.append(_text(x, 1, f"{questions.x[index, column]:x}"))
            parts.append(_text(x, 2, f"{questions.y[index, column]:x}"))
            parts.append(_text(x, 4, bucket, 14, weight="bold"))
        parts.append(_text(x, 0, "1" if carry else "·", 16))
        parts.append(_text(x, 3, f"{digit:x}", weight="bold"))
    rule = 3 * ROW + 12
    parts.append(
        f'<path d="M{LEFT} {rule}H{width - 8}" stroke="currentColor" stroke-width="1.5"/></svg>'
    )
    return "".join(parts)


def _text(
    x: float, row: int, text: str, size: int = 22, anchor: str = "middle", weight: str = "normal"
) -> str:
    y = row * ROW + (36 if row < 3 else 44)
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">{text}</text>'

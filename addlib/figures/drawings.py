"""Hand-drawn SVG pictures of questions, in the palette of the plots; they follow the page's text
colour.

The staircase picture, drawn from measured attention: the pair that each head looks at for each
answer digit.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from addlib.figures.palette import COLOURS, line_colours, tinted
from addlib.tasks.addition import BUCKETS, AdditionTask, Questions

SUM_CELL, SUM_ROW = 58, 40  # width of a column and height of a row, in SVG units


SUM_LEFT = 92  # room for the row names


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
    width, height = SUM_LEFT + (n + 1) * SUM_CELL + 8, 5 * SUM_ROW + 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="ui-monospace, monospace" '
        f'font-size="22" text-anchor="middle" fill="currentColor" style="width:100%;max-width:{width}px;height:auto">'
    ]
    for row, name in enumerate(["carry in", "first", "second", "sum"]):
        parts.append(_label(SUM_LEFT - 14, row, name, 14, "end"))
    for column in range(n + 1):
        x = SUM_LEFT + (n - column) * SUM_CELL + SUM_CELL / 2
        carry, digit = questions.carry[index, column].item(), questions.answer[index, column].item()
        if column < n:
            bucket = BUCKETS[questions.bucket[index, column]]
            colour = COLOURS[bucket]
            parts.append(
                f'<rect x="{x - SUM_CELL / 2 + 3}" y="6" width="{SUM_CELL - 6}" height="{5 * SUM_ROW + 14}" rx="8" '
                f'fill="{tinted(colour, 0.16)}" stroke="{colour}" stroke-width="1.5"/>'
            )
            parts.append(_label(x, 1, f"{questions.x[index, column]:x}"))
            parts.append(_label(x, 2, f"{questions.y[index, column]:x}"))
            parts.append(_label(x, 4, bucket, 14, weight="bold"))
        parts.append(_label(x, 0, "1" if carry else "·", 16))
        parts.append(_label(x, 3, f"{digit:x}", weight="bold"))
    rule = 3 * SUM_ROW + 12
    parts.append(
        f'<path d="M{SUM_LEFT} {rule}H{width - 8}" stroke="currentColor" stroke-width="1.5"/></svg>'
    )
    return "".join(parts)


def _label(
    x: float, row: int, text: str, size: int = 22, anchor: str = "middle", weight: str = "normal"
) -> str:
    y = row * SUM_ROW + (36 if row < 3 else 44)
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">{text}</text>'


CELL, BAR, GAP = (
    74,
    9,
    12,
)  # width of a column, height of a head's bar, room around the bars, in SVG units


LEFT, TOP = 84, 46  # room for the row names and for the column names


def staircase_picture(
    pairs: Float[Tensor, "heads n_answer n_digits"], labels: Sequence[str], task: AdditionTask
) -> str:
    """The heads' attention as bars in a grid: a row for each answer digit, a column for each pair.

    A bar that fills its cell is all of a head's attention; what goes to no pair is in the last
    column. Rows stand in the order in which the model writes, pairs in reading order, so that "one
    column down with each token" is a staircase. A cell that has at least half of a head's attention
    is outlined in the head's colour: its stairs.

    Args:
        pairs: share of attention on each pair, by answer column and pair column
            (`addlib.analysis.roles.pair_attention`).
        labels: names of the heads, all different; they choose the colours
            (`addlib.figures.palette.line_colours`).

    Returns:
        The text of one SVG element; text takes the page's own colour.

    Raises:
        ValueError: shapes that do not fit, labels that are not distinct, or values that are no
            shares.
    """
    n, heads = task.n_digits, len(labels)
    if tuple(pairs.shape) != (heads, task.n_answer, n) or len(set(labels)) != heads or not heads:
        raise ValueError(
            f"pairs has shape {tuple(pairs.shape)}, labels {list(labels)} make "
            f"{(heads, task.n_answer, n)}; "
            "labels must be distinct"
        )
    if not ((pairs >= 0) & (pairs.sum(-1, keepdim=True) <= 1 + 1e-4)).all():
        raise ValueError("pairs holds values that are no shares of one head's attention")
    colours, row_height = line_colours(list(labels)), heads * BAR + GAP
    width, height = LEFT + (n + 1) * CELL + 6, TOP + task.n_answer * row_height + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="14" text-anchor="middle" '
        f'font-family="ui-monospace, monospace" fill="currentColor" '
        f'style="width:100%;max-width:{round(1.2 * width)}px;height:auto">'
    ]
    for place, name in enumerate([f"D{j} D&#8242;{j}" for j in reversed(range(n))] + ["elsewhere"]):
        parts.append(_text(LEFT + (place + 0.5) * CELL, TOP - 14, name, 13 if place == n else 14))
    for row, k in enumerate(task.answer_columns):
        top = TOP + row * row_height
        parts.append(_text(LEFT - 12, top + row_height / 2 + 5, f"makes A{k}", anchor="end"))
        for place, j in enumerate([*reversed(range(n)), None]):
            x = LEFT + place * CELL
            parts.append(
                _box(
                    x + 1,
                    top + 1,
                    CELL - 2,
                    row_height - 2,
                    "cell",
                    'fill="currentColor" opacity="0.06"',
                )
            )
            for h, label in enumerate(labels):
                share = float(pairs[h, k, j] if j is not None else 1 - pairs[h, k].sum())
                parts.append(
                    _bar(
                        x,
                        top + GAP / 2 + h * BAR,
                        min(max(share, 0), 1),
                        label,
                        k,
                        j,
                        colours[label],
                    )
                )
            half = [
                colours[label]
                for h, label in enumerate(labels)
                if j is not None and pairs[h, k, j] >= 0.5
            ]
            parts += _frames(half, x, top, row_height)
    for h, label in enumerate(labels):
        x = LEFT + h * (width - LEFT) / heads
        parts.append(_box(x, height - 21, 14, 12, "key", f'fill="{colours[label]}"'))
        parts.append(_text(x + 20, height - 10, html.escape(label), anchor="start"))
    return "".join(parts) + "</svg>"


def _bar(x: float, y: float, share: float, label: str, k: int, j: int | None, colour: str) -> str:
    """One head's share in one cell; its opacity grows with it too, so that a trace stays faint."""
    where = "elsewhere" if j is None else f"pair {j}"
    title = f"<title>{html.escape(label)}, making A{k}: {share:.1%} on {where}</title>"
    look = f'fill="{tinted(colour, round(0.35 + 0.65 * share, 3))}"'
    return _box(x + 4, y + 1, round(share * (CELL - 8), 2), BAR - 2, "share", look, title)


def _frames(colours: Sequence[str], x: float, top: float, high: float) -> list[str]:
    """A frame in each colour around one cell, each inside the one before."""
    return [
        _box(
            x + 2 + 3 * i,
            top + 2 + 3 * i,
            CELL - 4 - 6 * i,
            high - 4 - 6 * i,
            "step",
            f'fill="none" stroke="{colour}" stroke-width="2" rx="4"',
        )
        for i, colour in enumerate(colours)
    ]


def _box(
    x: float, y: float, width: float, height: float, kind: str, look: str, inside: str = ""
) -> str:
    place = f'class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f"<rect {place} {look}>{inside}</rect>" if inside else f"<rect {place} {look}/>"


def _text(x: float, y: float, text: str, size: int = 14, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}">{text}</text>'

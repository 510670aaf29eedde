"""SVG drawings in the palette of the plots: a sum, its tokens, the model, attention's staircase.

Text without a colour of its own takes the page's.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from addlib.figures.palette import COLOURS, GRID, NEUTRAL, digit_colours, line_colours, tinted
from addlib.tasks.addition import BUCKETS, AdditionTask, Questions

# the sum, in SVG units
COLUMN = 58  # width of a column
ROW = 40  # height of a row
SUM_LEFT = 92  # room for the row names

# the tokens, in SVG units
TOKEN = 46  # from one token to the next
ARC = 84  # room above the tokens for arrows
WIDE = 620  # CSS pixels below which tokens can't be read; narrower pages scroll the drawing

# the staircase, in SVG units
CELL = 74  # width of a column
BAR = 9  # height of a head's bar
GAP = 12  # room above and below a cell's bars, together
STAIRS_LEFT = 84  # room for the row names
STAIRS_TOP = 46  # room for the column names


def sum_picture(questions: Questions, index: int = 0) -> str:
    """One question written out as at school, each column tinted by its bucket.

    From top to bottom: the carry into each column, both operands, the sum, and the bucket's name
    under its column. The top answer digit has no pair of its own and stays untinted.

    Args:
        questions: a batch; the question at ``index`` is drawn.

    Returns:
        The text of one SVG element.
    """
    n = questions.task.n_digits
    width = SUM_LEFT + (n + 1) * COLUMN + 8
    height = 5 * ROW + 26
    parts = [
        _written(SUM_LEFT - 14, row, name, 14, "end")
        for row, name in enumerate(["carry in", "first", "second", "sum"])
    ]
    for column in range(n + 1):
        x = SUM_LEFT + (n - column) * COLUMN + COLUMN / 2
        if column < n:
            bucket = BUCKETS[questions.bucket[index, column]]
            parts.append(
                f'<rect x="{x - COLUMN / 2 + 3}" y="6" width="{COLUMN - 6}" '
                f'height="{height - 12}" rx="8" fill="{tinted(COLOURS[bucket], 0.16)}" '
                f'stroke="{COLOURS[bucket]}" stroke-width="1.5"/>'
            )
            parts.append(_written(x, 1, f"{questions.x[index, column]:x}"))
            parts.append(_written(x, 2, f"{questions.y[index, column]:x}"))
            parts.append(_written(x, 4, bucket, 14, weight="bold"))
        parts.append(_written(x, 0, "1" if questions.carry[index, column] else "·", 16))
        parts.append(_written(x, 3, f"{questions.answer[index, column]:x}", weight="bold"))
    rule = f"M{SUM_LEFT} {3 * ROW + 12}H{width - 8}"
    parts.append(f'<path d="{rule}" stroke="currentColor" stroke-width="1.5"/>')
    font = 'font-family="ui-monospace, monospace" font-size="22" text-anchor="middle"'
    return _svg(parts, width, height, font, shown_width=width)


def token_picture(questions: Questions, index: int = 0) -> str:
    """One question as the row of tokens that a model sees, an arrow to each digit that it predicts.

    Below each token stand its name and its position; the tokens of one column share a colour.

    Args:
        questions: a batch; the question at ``index`` is drawn.

    Returns:
        The text of one SVG element.
    """
    task = questions.task
    names = task.token_names
    symbols = task.text(questions.tokens[index])
    colours = digit_colours(task.n_answer)
    width = len(names) * TOKEN + 8
    parts = []
    for position, (name, symbol) in enumerate(zip(names, symbols, strict=True)):
        x = 4 + position * TOKEN
        digits = re.search(r"\d+", name)
        hue = colours[int(digits[0])] if digits else NEUTRAL
        look = f'rx="7" fill="{tinted(hue, 0.16)}" stroke="{hue}" stroke-width="1.5"'
        parts.append(_box("token", x + 2, ARC, TOKEN - 4, TOKEN, look))
        parts.append(_text(x + TOKEN / 2, ARC + 32, html.escape(symbol), 24))
        parts.append(_text(x + TOKEN / 2, ARC + TOKEN + 24, name.replace("'", "&#8242;"), 15))
        parts.append(_text(x + TOKEN / 2, ARC + TOKEN + 46, str(position), 13))
    for position, column in zip(task.answer_positions, task.answer_columns, strict=True):
        start, end = (4 + (place + 0.5) * TOKEN for place in (position, position + 1))
        curve = f"M{start} {ARC - 4}C{start} {ARC - 44} {end} {ARC - 44} {end} {ARC - 6}"
        parts.append(_arrow(curve, end, ARC - 2, colours[column]))
    parts.append(_text(width - 6, 24, "each predicts the next token", 15, "end"))
    font = 'font-family="ui-monospace, monospace" text-anchor="middle"'
    return _svg(parts, width, ARC + TOKEN + 56, font, shown_width=width, least_width=WIDE)


def model_picture(questions: Questions, column: int, index: int = 0) -> str:
    """How a one-layer model makes one answer digit: read the tokens, look back, work, score.

    Args:
        questions: a batch; the question at ``index`` is drawn. column: of the digit that is made.

    Returns:
        The text of one SVG element.
    """
    task = questions.task
    last = task.answer_positions[task.answer_columns.index(column)]
    symbols = task.text(questions.tokens[index])
    colours = digit_colours(task.n_answer)
    width = (last + 1) * TOKEN + 360
    stream = 4 + (last + 0.5) * TOKEN
    steps = {
        "embedding: token and position": 262,
        "attention: heads look back": 190,
        "MLP: works on what they bring": 118,
        "unembedding: a score for each digit": 46,
    }
    parts = [
        f'<path d="M{stream} 300V30" stroke="currentColor" stroke-width="2"/>',
        _text(stream, 22, f"A{column} = {questions.answer[index, column]:x}", 22),
    ]
    for place, symbol in zip(range(last + 1), symbols, strict=False):
        hue = NEUTRAL if place == last else GRID
        look = f'rx="7" fill="none" stroke="{hue}" stroke-width="1.5"'
        parts.append(_box("token", 4 + place * TOKEN + 2, 300, TOKEN - 4, TOKEN, look))
        parts.append(_text(4 + (place + 0.5) * TOKEN, 332, html.escape(symbol), 24))
    for down in range(min(3, column + 1)):
        for name in (f"D{column - down}", f"D'{column - down}"):
            if name in task.token_names:
                x = 4 + (task.token_names.index(name) + 0.5) * TOKEN
                curve = f"M{x} 298C{x} 210 {stream - 130} 190 {stream - 78} 190"
                parts.append(_arrow(curve, stream - 71, 190, colours[column - down], flat=True))
    for label, y in steps.items():
        look = 'rx="8" fill="var(--pst-color-background, #fff)" stroke="currentColor"'
        parts.append(_box("step", stream - 70, y - 18, 140, 36, look))
        word, _, rest = label.partition(": ")
        parts.append(_text(stream, y + 6, word, 18))
        parts.append(_text(stream + 80, y + 6, rest, 18, "start"))
    font = 'font-family="system-ui, sans-serif" text-anchor="middle"'
    return _svg(parts, width, 352, font, shown_width=width, least_width=WIDE)


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
        The text of one SVG element.
    """
    n = task.n_digits
    row_height = len(labels) * BAR + GAP
    width = STAIRS_LEFT + (n + 1) * CELL + 6
    height = STAIRS_TOP + task.n_answer * row_height + 34
    colours = line_colours(list(labels))
    shares = torch.cat([pairs.flip(-1), 1 - pairs.sum(-1, keepdim=True)], dim=-1).clamp(0, 1)
    columns = {f"pair {j}": f"D{j} D&#8242;{j}" for j in reversed(range(n))}
    columns["elsewhere"] = "elsewhere"
    lefts = [STAIRS_LEFT + place * CELL for place in range(n + 1)]
    parts = []
    for x, heading in zip(lefts, columns.values(), strict=True):
        size = 13 if heading == "elsewhere" else 14
        parts.append(_text(x + CELL // 2, STAIRS_TOP - 14, heading, size))
    for row, k in enumerate(task.answer_columns):
        top = STAIRS_TOP + row * row_height
        parts.append(_text(STAIRS_LEFT - 12, top + row_height / 2 + 5, f"makes A{k}", 14, "end"))
        for place, target in enumerate(columns):
            in_cell = dict(zip(labels, shares[:, k, place].tolist(), strict=True))
            parts += _cell(lefts[place], top, in_cell, colours, f"making A{k}", target)
    for h, label in enumerate(labels):
        left = STAIRS_LEFT + h * (width - STAIRS_LEFT) / len(labels)
        parts.append(_box("key", left, height - 21, 14, 12, f'fill="{colours[label]}"'))
        parts.append(_text(left + 20, height - 10, html.escape(label), 14, "start"))
    font = 'font-size="14" text-anchor="middle" font-family="ui-monospace, monospace"'
    return _svg(parts, width, height, font, shown_width=round(1.2 * width))


def _cell(
    x: int, top: int, shares: dict[str, float], colours: dict[str, str], making: str, target: str
) -> list[str]:
    """Each head's share of attention on one target as a bar, and outlines for stairs."""
    height = len(shares) * BAR + GAP
    parts = [
        _box("cell", x + 1, top + 1, CELL - 2, height - 2, 'fill="currentColor" opacity="0.06"')
    ]
    for h, (label, share) in enumerate(shares.items()):
        y = top + GAP / 2 + h * BAR + 1
        # its opacity grows with the share, so that a trace stays faint
        fill = f'fill="{tinted(colours[label], round(0.35 + 0.65 * share, 3))}"'
        title = f"<title>{html.escape(label)}, {making}: {share:.1%} on {target}</title>"
        parts.append(_box("share", x + 4, y, round(share * (CELL - 8), 2), BAR - 2, fill, title))
    stairs = [label for label, share in shares.items() if share >= 0.5 and target != "elsewhere"]
    for i, label in enumerate(stairs):
        inset = 2 + 3 * i  # each inside the one before
        size = (CELL - 2 * inset, height - 2 * inset)
        look = f'fill="none" stroke="{colours[label]}" stroke-width="2" rx="4"'
        parts.append(_box("step", x + inset, top + inset, *size, look))
    return parts


def _arrow(curve: str, x: float, y: float, colour: str, flat: bool = False) -> str:
    """A curve with a head at its end, which points down, or to the right where it is flat."""
    head = f"M{x} {y}l-8 -4v8z" if flat else f"M{x} {y}l-4 -8h8z"
    return (
        f'<path d="{curve}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        f'<path d="{head}" fill="{colour}"/>'
    )


def _written(
    x: float, row: int, text: str, size: int = 22, anchor: str = "middle", weight: str = "normal"
) -> str:
    """Text on a row of the sum; the last two rows stand below the rule."""
    y = row * ROW + (36 if row < 3 else 44)
    look = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" {look}>{text}</text>'


def _text(x: float, y: float, text: str, size: int, anchor: str = "middle") -> str:
    look = f'font-size="{size}" text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}" {look}>{text}</text>'


def _box(
    kind: str, x: float, y: float, width: float, height: float, look: str, title: str = ""
) -> str:
    place = f'class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f"<rect {place} {look}>{title}</rect>" if title else f"<rect {place} {look}/>"


def _svg(
    parts: list[str], width: int, height: int, font: str, shown_width: int, least_width: int = 0
) -> str:
    """The parts as one SVG element, `shown_width` CSS pixels wide where the page has room."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font} '
        f'fill="currentColor" style="width:100%;min-width:{least_width}px;max-width:{shown_width}px;'
        f'height:auto">'
        f"{''.join(parts)}</svg>"
    )

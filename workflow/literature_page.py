"""The page that says where things from the literature are, from ``book/literature.yml``."""

from __future__ import annotations

import html
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from workflow.chapters import ROOT, WorkflowError, chapters

LITERATURE = ROOT / "book" / "literature.yml"

STATUSES = ("there", "in part", "open", "left out")


@dataclass(frozen=True)
class Item:
    """One entry of literature.yml, whose head says what each key is."""

    item: int
    source: str
    what: str
    owner: str
    status: str
    place: list[str] = field(default_factory=list)
    note: str = ""


def literature(path: Path = LITERATURE) -> tuple[dict[str, str], list[Item]]:
    """What each document is called, by key, and all items in their order.

    Raises:
        WorkflowError: an entry with an unknown or missing key, an unknown document or status, an
            item that is there and has no place, or one that is not, or in part, without a reason.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    items = [_item(path, entry) for entry in entries["items"]]
    for item in items:
        faults = {
            f"from = {item.source!r}: not among the sources": item.source not in entries["sources"],
            f"status = {item.status!r}: must be one of {', '.join(STATUSES)}": item.status
            not in STATUSES,
            "it is there and has no place": item.status in ("there", "in part") and not item.place,
            "no note says what is left out and why": item.status in ("in part", "left out")
            and not item.note,
        }
        for fault, found in faults.items():
            if found:
                raise WorkflowError(f"{path.name}: item {item.item}: {fault}")
    return entries["sources"], items


def _item(path: Path, entry: dict[str, Any]) -> Item:
    values = {("source" if key == "from" else key): value for key, value in entry.items()}
    try:
        return Item(**values)
    except TypeError as error:
        raise WorkflowError(f"{path.name}: {entry}: {error}") from error


def literature_tables(complete: Collection[str], path: Path = LITERATURE) -> str:
    """Markdown: how many items there are of each status, and a table for each document.

    Args:
        complete: chapters whose pages have all their anchors; a link to another one leads to its
            top.
    """
    sources, items = literature(path)
    counts = {status: sum(item.status == status for item in items) for status in STATUSES}
    parts = [
        f"{len(items)} items: {counts['there']} are there, {counts['in part']} in part, "
        f"{counts['open']} are open, {counts['left out']} are left out on purpose."
    ]
    for key, name in sources.items():
        parts += [f"## {HEADINGS[key]}", f"{name}."]
        rows = [_row(item, complete) for item in items if item.source == key]
        parts.append("\n".join(["| | what | where |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


HEADINGS = {
    "addition": "Addition",
    "notes": "Loss curves of addition",
    "grokking": "Modular addition",
    "qwen": "Multiplication in a language model",
}
"""Headings of the tables, by the document's key."""


def _row(item: Item, complete: Collection[str]) -> str:
    where = ", ".join(_link(place, complete) for place in item.place)
    if item.status == "open":
        where = f"*open* ({item.owner}){': ' if where else ''}{where}"
    elif item.status == "in part":
        where = f"*in part*: {where}"
    elif item.status == "left out":
        where = "*left out*"
    note = f"; {item.note}" if item.note else ""
    cells = [f'<span id="item-{item.item}">{item.item}</span>', item.what, where + note]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _link(place: str, complete: Collection[str]) -> str:
    """A link to a place: of a chapter by its number, of a page by its name."""
    if place.startswith("file:"):
        return f"`{place.removeprefix('file:')}`"
    page, _, anchor = place.partition("#")
    known = chapters()
    if page in known:
        address = f"../notebooks/{page}.html"
        name = known[page].number
        anchor = anchor if page in complete else ""
    else:
        address = f"{page}.html"
        name = page.replace("_", " ")
    words = anchor.removeprefix("fig-").replace("-", " ")
    target = f"{address}#{anchor}" if anchor else address
    return f'<a href="{html.escape(target)}">{name}{": " if words else ""}{words}</a>'

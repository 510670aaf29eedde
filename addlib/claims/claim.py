"""What the book claims: each claim is declared once, in ``book/claims.yml``."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from addlib.claims.threshold import Threshold
from addlib.files import PACKAGE

KINDS = ("claim", "check", "replication")

REQUIRED = ("statement", "source", "metric", "unit", "threshold", "kind")

OPTIONAL = ("registered", "seen", "changes", "refuted_by", "needs")

DECLARED = (
    "id",
    "chapter",
    "statement",
    "source",
    "metric",
    "unit",
    "threshold",
    "kind",
    "status",
    "registered",
    "seen",
)
"""Keys of a record that repeat the claim's declaration, as texts."""

MEASURED = ("value", "ci", "n_seeds", "verdict", "device", "revision", "seed", "cell", "smoke")
"""Keys of a record that only the run can know."""


@dataclass(frozen=True)
class Claim:
    """A statement that a run can bear out or refute.

    Args:
        id: chapter number and name: ``"02.final-loss"``.
        chapter: the notebook's name without its ending: ``"02_training"``.
        place: file and line of the declaration, for messages.
        statement: the claim in one sentence.
        source: who says so: a citation, or the book's own chapter.
        metric: what is measured: ``"mean loss of the last 100 steps"``.
        unit: of the value, and the kind of its interval where it has one: ``"nats"``.
        threshold: the values that bear it out.
        kind: ``claim``; ``check``, which only a mistake can fail; ``replication`` of a paper's.
        registered: the day from which the threshold stood, with no run of the measurement before.
        seen: seeds and runs that were looked at when the threshold was set.
        changes: what was changed since, and why.
        refuted_by: what would show the opposite.
        needs: the models that it is about, where the chapter's own is none of them; it is *not run*
            until a chapter measures it on these.
    """

    id: str
    chapter: str
    place: str
    statement: str
    source: str
    metric: str
    unit: str
    threshold: Threshold
    kind: str
    registered: date | None = None
    seen: str = ""
    changes: str = ""
    refuted_by: str = ""
    needs: str = ""

    @property
    def seeds_seen(self) -> frozenset[int]:
        """The training seeds that `seen` names: 1 and 3 of ``seeds 1, 3: the map of shares``."""
        lists = re.findall(r"\bseeds? (\d[\d, and]*)", self.seen)
        return frozenset(int(seed) for text in lists for seed in re.findall(r"\d+", text))

    @property
    def status(self) -> str:
        """``after a look`` where something was seen first, else ``registered`` or ``exploratory``."""
        if self.seen:
            return "after a look"
        return "registered" if self.registered else "exploratory"


def declared(path: Path | None = None) -> Mapping[str, Claim]:
    """All claims by id, in the order of the file.

    Args:
        path: default ``book/claims.yml`` of the checkout, else the copy inside the package.

    Raises:
        ValueError: with file and line, for what is not a declaration: a key that stands twice or
            is no chapter, an id of another form or number, a field that is missing, unknown or
            ill-formed.
    """
    if path is None:
        checkout = PACKAGE.parent / "book" / "claims.yml"
        path = checkout if checkout.is_file() else PACKAGE / "book" / "claims.yml"
    return _read(path, path.stat().st_mtime_ns)


@functools.cache
def _read(path: Path, changed: int) -> Mapping[str, Claim]:
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is not YAML: {error}") from error
    notebooks = {notebook.stem for notebook in (path.parents[1] / "notebooks").glob("*.ipynb")}
    claims = {}
    for chapter, entries, place in _entries(root, path):
        if not re.fullmatch(r"\d\d_\w+", chapter) or (notebooks and chapter not in notebooks):
            raise ValueError(f"{place}: {chapter} is no chapter: write the name of its notebook")
        for id, fields, place in _entries(entries, path):
            texts = {name: field.value for name, field, _ in _entries(fields, path)}
            try:
                claims[id] = _claim(id, chapter, place, texts)
            except ValueError as error:
                raise ValueError(f"{place}: {id}: {error}") from error
    return claims


def _entries(node: yaml.Node | None, path: Path) -> Iterator[tuple[str, yaml.Node, str]]:
    """Key, value, and file and line of each entry; YAML itself would keep the last of two."""
    file = path.relative_to(PACKAGE.parent) if path.is_relative_to(PACKAGE.parent) else path
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node else 1
        raise ValueError(f"{file}:{line}: write names with their values here, each 'name: value'")
    keys = set()
    for key, value in node.value:
        place = f"{file}:{key.start_mark.line + 1}"
        if key.value in keys:
            raise ValueError(f"{place}: {key.value} stands here a second time: keep one of them")
        keys.add(key.value)
        yield key.value, value, place


def _claim(id: str, chapter: str, place: str, texts: Mapping[str, str]) -> Claim:
    if not re.fullmatch(rf"{chapter[:2]}\.[a-z0-9][a-z0-9-]*", id):
        raise ValueError(f"write the number of {chapter} and a name: {chapter[:2]}.final-loss")
    for name in texts:
        if name not in (*REQUIRED, *OPTIONAL):
            raise ValueError(f"{name} is no field: use {', '.join((*REQUIRED, *OPTIONAL))}")
        if not isinstance(texts[name], str):
            raise ValueError(f"{name} must be one text: write it beside the name")
    if missing := [name for name in REQUIRED if not texts.get(name)]:
        raise ValueError(f"has no {missing[0]}: add it")
    if texts["kind"] not in KINDS:
        raise ValueError(f"kind {texts['kind']!r} must be one of {', '.join(KINDS)}")
    threshold = Threshold.parse(texts["threshold"])
    registered = date.fromisoformat(texts["registered"]) if texts.get("registered") else None
    values: dict[str, Any] = dict(texts, threshold=threshold, registered=registered)
    return Claim(id=id, chapter=chapter, place=place, **values)

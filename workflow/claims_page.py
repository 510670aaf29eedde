"""The claims as readers see them: squares, a sentence that counts them, and the table of all."""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from addlib.claims import stored
from addlib.claims.claim import Claim, declared
from addlib.claims.over_seeds import OUTCOMES, OverSeeds
from addlib.claims.threshold import UNASKED, VERDICTS, Threshold, quantity, span
from workflow.chapters import WorkflowError
from workflow.registration import history

Record = dict[str, Any]

DAYS_COMPARED = "The days on which thresholds were set are those of the repository's history: a test compares them."

DAYS_NOT_COMPARED = (
    "The days on which thresholds were set are the authors' word: this copy of the book has no history "
    "to compare them with."
)

MARK = "\\*"
"""Markdown behind a value that this run has not measured yet: an earlier one has."""

CLAIM_FIELD = re.compile(r"\{(\d\d\.[a-z0-9-]+)( verdict| predicted| models| range)?\}")
"""What stands on a page for a value, a verdict, a threshold, or what several models say."""


def add_claim_targets(notebook: NotebookNode, records: list[Record]) -> list[Record]:
    """Put a link target in front of the cell that measured each claim.

    It is the cell with the execution count that the record names.

    Args:
        notebook: the executed chapter. records: of its claims.

    Returns:
        The records whose cell is not there; none of a claim on what the model lacks.
    """
    cells = []
    for cell in notebook.cells:
        count = cell.get("execution_count")
        for record in records:
            if count is not None and record["cell"] == count:
                record["target"] = claim_target(record["id"])
                cells.append(new_markdown_cell(f"({record['target']})="))
        cells.append(cell)
    notebook.cells = cells
    return [record for record in records if "target" not in record and record["value"] is not None]


def claim_target(claim: str) -> str:
    """Name of a claim's link target: ``claim-02-final-loss``."""
    return "claim-" + claim.replace(".", "-")


def add_ledger(target: Path, records: list[Record], titles: dict[str, str], smoke: bool) -> None:
    """Append squares and table to the staged claims page, and write what the first page includes.

    The fields of the first page and of the errata get their values.

    Args:
        target: the staging folder. records: of the ledger, with the targets that
            `add_claim_targets` found.
        titles: of the chapters, by name, in the order of the book. smoke: say that the values mean
            nothing.
    """
    records = [judged(record, smoke) for record in records]
    front = target / "book" / "_generated" / "claims.md"
    front.parent.mkdir(exist_ok=True)
    overview = squares(records, titles)
    counted = "[All claims](claims.md), by chapter. Each square is one; it leads to the cell that measures it."
    front.write_text(f"{counted}\n\n{overview}\n" if records else "", encoding="utf-8")
    said = f"**[The claims](claims.md)**: {score(records)}\n" if records else ""
    front.with_name("score.md").write_text(said, encoding="utf-8")
    for name in ("index.md", "errata.md"):
        prose = target / "book" / name
        if prose.is_file():
            text = with_claims(prose.read_text(encoding="utf-8"), records)
            prose.write_text(text, encoding="utf-8")
    page = target / "book" / "claims.md"
    text = page.read_text(encoding="utf-8").rstrip()
    page.write_text(f"{text}\n\n{ledger(records, overview, smoke)}\n", encoding="utf-8")


def judged(record: Record, smoke: bool = False) -> Record:
    """A record with what became of its claim: ``models``, ``outcome``, ``confirmed`` and ``old``.

    ``old`` says which models were measured against a threshold that has changed since. Where the
    book has measured the claim on models of other seeds, too, the verdict is that of all of them.
    Smoke runs have no such others.
    """
    claim = declared().get(record["id"])
    models = stored.on_other_seeds(claim) if claim and not smoke else None
    if models and record["seed"] is not None:
        models = models.with_model(record["seed"], record["value"], record["verdict"])
    return record | {
        "models": models,
        "outcome": models.verdict if models else record["verdict"],
        "confirmed": bool(claim and models and models.confirms(claim)),
        "old": stored.outdated(claim) if claim and not smoke else None,
    }


def with_claims(text: str, records: list[Record]) -> str:
    """A page's text with what was measured: its value for ``{02.accuracy}``, a dash where missing.

    ``{02.accuracy verdict}`` becomes the verdict, with a link to the cell that measured it, and
    ``{02.accuracy predicted}`` the threshold. ``{02.accuracy models}`` says in how many of the models
    with seeds of their own it holds, ``{02.accuracy range}`` from what to what their values go. What
    an earlier run has measured has a mark.

    Raises:
        WorkflowError: no claim has such an id.
    """
    measured = {record["id"]: record for record in records}

    def field(match: re.Match[str]) -> str:
        id, asked = match.groups()
        if id not in declared():
            raise WorkflowError(f"{match[0]}: book/claims.yml has no claim {id}")
        if asked == " predicted":
            claim = declared()[id]
            return claim.threshold.written(claim.unit)
        if id not in measured:
            return "–"
        record = measured[id]
        if asked is None:
            return quantity(record["value"], record["unit"]) + _mark(record)
        if asked == " models":
            return _holding(record) + _mark(record)
        if asked == " range":
            return _range(record) + _mark(record)
        outcome = OUTCOMES[record["outcome"]]
        word = outcome.one.removeprefix("is ")
        return f'[{outcome.sign} {word}]({_place(record)} "{id}"){_mark(record)}'

    return CLAIM_FIELD.sub(field, text)


def _holding(record: Record) -> str:
    """``5 of 9``: the models in which a claim holds."""
    models: OverSeeds | None = record["models"]
    verdicts = list(models.verdicts.values()) if models else [record["verdict"]]
    return f"{verdicts.count('holds')} of {len(verdicts)}"


def _range(record: Record) -> str:
    """``92.6% to 98.4%``: the lowest and the highest value of any model that has one."""
    models: OverSeeds | None = record["models"]
    if models is None:
        return quantity(record["value"], record["unit"])
    values = models.measured_values
    return span((min(values), max(values)), record["unit"]) if values else "–"


def score(records: list[Record]) -> str:
    """How the claims came out, checks apart, and how many verdicts may be chance.

    ``9 claims: 7 hold, 1 fails, 1 is inconclusive. 2 checks passed.``
    """
    claims = [record for record in records if record["kind"] != "check"]
    checks = [record for record in records if record["kind"] == "check"]
    passed = sum(record["outcome"] == "holds" for record in checks)
    confirmed = sum(record["confirmed"] for record in claims)
    lines = [
        f"{_number(claims, 'claim')}: {_counted(claims)}.",
        f"{confirmed} of them {'is' if confirmed == 1 else 'are'} confirmed: they hold on every "
        "training seed that nobody had looked at when the threshold was set.",
    ]
    if decided := sum(bool(r["ci"]) and r["verdict"] != "inconclusive" for r in claims):
        lines.append(
            f"{decided} verdicts rest on a 95% interval, and such an interval misleads in at most one "
            f"case in 40: expect up to {math.ceil(decided / 40)} of them to be wrong by chance."
        )
    if checks:
        failed = sum(record["outcome"] == "fails" for record in checks)
        others = {"failed": failed, "undecided": len(checks) - passed - failed}
        rest = "".join(f", {count} {word}" for word, count in others.items() if count)
        lines.append(f"{passed} of {_number(checks, 'check')} of the code passed{rest}.")
    if earlier := sum("recorded" in record for record in records):
        were = "was" if earlier == 1 else "were"
        lines.append(f"{earlier} of them {were} measured in an earlier run{MARK}.")
    return " ".join(lines)


def _number(records: list[Record], word: str) -> str:
    return f"{len(records)} {word}{'' if len(records) == 1 else 's'}"


def _counted(records: list[Record]) -> str:
    """``7 hold, 1 fails``: the outcomes that there are."""
    counts = Counter(record["outcome"] for record in records)
    return ", ".join(
        f"{counts[name]} {outcome.one if counts[name] == 1 else outcome.many}"
        for name, outcome in OUTCOMES.items()
        if counts[name]
    )


def squares(records: list[Record], titles: dict[str, str]) -> str:
    """One row a chapter that has claims, one square a claim; colour and sign say what became of it.

    Checks stand behind the claims, as outlines.
    """
    rows = []
    for chapter, title in titles.items():
        own = sorted((record for record in records if record["chapter"] == chapter), key=_order)
        if own:
            rows.append(
                f'<li><a class="chapter" href="../notebooks/{chapter}.html" title="{html.escape(title)}">'
                f"{chapter[:2]}</a> {' '.join(map(_square, own))}</li>"
            )
    legend = " ".join(
        f'<span><i class="{name}">{outcome.sign}</i> {outcome.one.removeprefix("is ")}</span>'
        for name, outcome in OUTCOMES.items()
    )
    legend += ' <span><i class="holds check">✓</i> a check of the code</span>'
    picture = f'<p class="legend">{legend}</p><ul>{"".join(rows)}</ul>'
    verdicts = f'data-verdicts="{" ".join(OUTCOMES)}"'
    nav = f'<nav class="addlib-squares" aria-label="Claims by chapter" {verdicts}>{picture}</nav>'
    return f"```{{raw}} html\n{nav}\n```"


def _order(record: Record) -> tuple[bool, int, str]:
    place = list(OUTCOMES).index(record["outcome"])
    return record["kind"] == "check", place, record["id"]


def _square(record: Record) -> str:
    sign = OUTCOMES[record["outcome"]].sign
    run = ", in an earlier run" if "recorded" in record else ""
    text = html.escape(f"{record['statement']} ({record['id']}: {_said(record)}{run})")
    place = f"#{record['target']}" if "target" in record else ""
    kind = record["outcome"]
    kind += " check" if record["kind"] == "check" else ""
    kind += " recorded" if run else ""
    return (
        f'<a class="{kind}" href="../notebooks/{record["chapter"]}.html{place}" title="{text}" '
        f'aria-label="{text}">{sign}</a>'
    )


def ledger(records: list[Record], overview: str, smoke: bool) -> str:
    """What the claims page shows below its first lines: score, squares, a table of all claims."""
    if not records:
        return "```{warning}\nNo claim has been measured yet. `make book` measures them.\n```"
    days = DAYS_COMPARED if history() is not None else DAYS_NOT_COMPARED
    lines = [
        score(records),
        f"Measured on {_listed(records, 'device')}; revision {_listed(records, 'revision')}. {days}",
        *_weights(records),
        "",
        overview,
        "",
        *_table([record for record in records if record["kind"] != "check"]),
    ]
    if checks := [record for record in records if record["kind"] == "check"]:
        title = "Checks: they hold unless there is a mistake in the code, and don't count above"
        lines += ["", f"````{{dropdown}} {title}", *_table(checks), "````"]
    measured = {record["id"] for record in records}
    if waiting := [c for c in declared().values() if c.needs and c.id not in measured]:
        title = "Not yet run: claims about other models, with thresholds set beforehand"
        lines += ["", f"````{{dropdown}} {title}", *_not_run(waiting), "````"]
    if smoke:
        note = "These values come from a smoke run: they check the mechanics and mean nothing."
        lines = [f"```{{warning}}\n{note}\n```", "", *lines]
    return "\n".join(lines)


def _weights(records: Iterable[Record]) -> list[str]:
    """A line on the weights of language models: in which form, and which chapters' claims are of them."""
    chapters: dict[str, set[str]] = {}
    for record in records:
        if record.get("weights"):
            chapters.setdefault(record["weights"], set()).add(record["chapter"][:2])
    lines = [f"{weights}: {', '.join(sorted(of))}" for weights, of in sorted(chapters.items())]
    return ["", f"Weights of language models, by chapter: {'; '.join(lines)}."] if lines else []


def _listed(records: Iterable[Record], key: str) -> str:
    return ", ".join(sorted({record[key] for record in records}))


def _table(records: list[Record]) -> list[str]:
    """Lines of a Markdown table, in the order of ids."""
    return [
        "| claim | statement | predicted | measured here | models | verdict |",
        "|---|---|---|---|---|---|",
        *map(_row, sorted(records, key=lambda record: record["id"])),
    ]


def _not_run(claims: Iterable[Claim]) -> list[str]:
    """Lines of a Markdown table of claims that need models which have not been measured."""
    rows = [
        f"| {claim.id} | {claim.statement} | {claim.threshold.written(claim.unit)} | {claim.needs} |"
        for claim in claims
    ]
    return ["| claim | statement | predicted | needs |", "|---|---|---|---|", *rows]


def _row(record: Record) -> str:
    source = "" if record["source"].startswith("this ") else f" *({record['source']})*"
    fields = [
        f"[{record['id']}]({_place(record)})",
        f"{record['statement']}{source}",
        Threshold.parse(record["threshold"]).written(record["unit"]),
        f"<details><summary>{_measured(record)}{_mark(record)}</summary>{_details(record)}</details>",
        _models(record),
        _verdict(record),
    ]
    return "| " + " | ".join(field.replace("|", "\\|") for field in fields) + " |"


def _measured(record: Record) -> str:
    """Value and interval: ``98.3% (98.2% to 98.5%)``."""
    if record["value"] is None:
        return UNASKED
    value = quantity(record["value"], record["unit"])
    return f"{value} ({span(record['ci'], record['unit'])})" if record["ci"] else value


def _details(record: Record) -> str:
    """What was measured, what its interval is, and when the threshold was set."""
    interval = record["unit"].partition(";")[2].strip()
    parts = [record["metric"]]
    if interval and record["ci"]:
        parts.append(f"in brackets: {interval}")
    day = f"threshold unchanged since {record['registered']}" if record["registered"] else ""
    seen = f"set after a look at {record['seen']}" if record["seen"] else ""
    parts.append(", ".join(filter(None, (day, seen))) or "exploratory: no day of registration")
    if record.get("weights"):
        parts.append(f"weights: {record['weights']}")
    return "; ".join(parts)


def _models(record: Record) -> str:
    """How many models the verdict rests on, and which; where each has its own, their signs."""
    models: OverSeeds | None = record["models"]
    if models is None:
        count, which = _behind(record)
        old = f' <em title="{html.escape(record["old"])}">old record</em>' if record["old"] else ""
        return f'<span title="{html.escape(which)}">{count}</span>{old}'
    signs = []
    for seed, verdict in models.verdicts.items():
        value = models.values[seed]
        said = UNASKED if value is None else quantity(value, record["unit"])
        signs.append(f'<span title="seed {seed}: {said}">{VERDICTS[verdict].sign}</span>')
    return f"{len(signs)} {''.join(signs)}"


def _behind(record: Record) -> tuple[str, str]:
    """How many models a claim was measured on at once, in the fewest words, and which they are."""
    if record.get("weights"):
        return "1 LLM", record["weights"]
    if record["n_seeds"] == 0:
        return "by hand", "weights that nobody trained"
    if record["n_seeds"] == 1:
        return "1", f"training seed {record['seed']}"
    return str(record["n_seeds"]), f"{record['n_seeds']} training seeds, behind one value"


def _place(record: Record) -> str:
    """Link from a page of the book to the cell that measured a claim, or to its chapter."""
    if "target" in record:
        return f"#{record['target']}"
    return f"../notebooks/{record['chapter']}.ipynb"


def _said(record: Record) -> str:
    """What became of a claim, in words: ``holds``, or ``holds in 4 of 5 seeds, fails in 1``."""
    models: OverSeeds | None = record["models"]
    if models and not models.agree:
        return models.counted
    return record["outcome"]


def _verdict(record: Record) -> str:
    """The last cell of a row; claims.js reads chapter and verdict from its attributes."""
    name = record["outcome"]
    data = f'data-chapter="{record["chapter"][:2]}" data-verdict="{name}"'
    outcome = OUTCOMES[name]
    word = outcome.one.removeprefix("is ").partition(" ")[0]
    strong = f'<strong {data} title="{_said(record)}">{outcome.sign} {word}</strong>'
    return strong + _mark(record)


def _mark(record: Record) -> str:
    return MARK if "recorded" in record else ""

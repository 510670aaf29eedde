"""The ledger of claims: what a run measured, and the verdict against the declared threshold.

A chapter opens a :class:`Ledger` and hands it each measured value; every claim becomes one file
under ``claims/`` of the results. ``python -m addlib.claims.ledger collect`` checks these files
against ``book/claims.yml``, gathers them into ``claims.json`` and prints the score.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol, Self

import pandas as pd

from addlib.claims import stored
from addlib.claims.claim import DECLARED, MEASURED, Claim, declared
from addlib.claims.over_seeds import OverSeeds
from addlib.claims.provenance import revision, versions
from addlib.claims.threshold import UNASKED, VERDICTS, Threshold, quantity, span
from addlib.files import results_dir, write_whole

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int, Shaped
    from torch import Tensor

Record = dict[str, Any]


class Measured(Protocol):
    """What a ledger asks of a training run: see :class:`addlib.training.runs.Run`."""

    @property
    def config(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def file(self) -> str: ...

    @property
    def checkpoint(self) -> str: ...


class Ledger:
    """One chapter's claims in one run: each is measured once.

    Args:
        chapter: the notebook's name without its ending: ``"02_training"``.
        device: where the chapter measures, unless a measurement says otherwise; records have its
            name (:func:`addlib.device.device_name`).
        seed: of the chapter's model, unless a measurement says otherwise.
        file: hash of the file that the model is from; empty for the book's own. Records of such a
            model are kept apart, under this name, and what it lacks is not counted against it.
        weights: which weights of a language model the measurements are of, in words; they stand on
            the claims page.
        checkpoint: SHA-256 of the file with the trained weights, if there is one. It stands in the
            records of claims about the seed's one model.
    """

    def __init__(
        self,
        chapter: str,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        file: str = "",
        weights: str = "",
        checkpoint: str = "",
    ) -> None:
        self.chapter = chapter
        self.device = device
        self.seed = None if file else seed
        self.file = file
        self.weights = weights
        self.checkpoint = checkpoint
        self._measured: dict[str, Record] = {}

    @classmethod
    def of(cls, chapter: str, run: Measured) -> Self:
        """The ledger of a chapter that measures the model of a training run."""
        return cls(chapter, run.device, run.config.seed, run.file, checkpoint=run.checkpoint)

    def __getitem__(self, id: str) -> Claim:
        """The declared claim; raises ValueError where this chapter has none of this id."""
        claim = declared().get(id)
        if claim is None:
            (name,) = difflib.get_close_matches(id, declared(), 1, cutoff=0)
            raise ValueError(
                f"{id} is measured and not declared in book/claims.yml: declare it there, or write "
                f"{name} ({declared()[name].place})"
            )
        if claim.chapter != self.chapter:
            raise ValueError(
                f"{claim.place}: {id} is declared for {claim.chapter}, and {self.chapter} asks for "
                f"it: move the declaration, or measure it there"
            )
        return claim

    @property
    def records(self) -> list[Record]:
        """What was measured so far."""
        return list(self._measured.values())

    def measure(
        self,
        id: str,
        value: float,
        ci: tuple[float, float] | None = None,
        n_seeds: int = 1,
        device: torch.device | str | None = None,
        seed: int | None = None,
        weights: str | None = None,
    ) -> Record:
        """Write the claim's record, whole or not at all, and return it.

        Runs with smoke parameters (``ADDLIB_SMOKE=1``) write to ``claims/smoke/``, notebooks that a
        person runs to ``claims/by_hand/``, and those of a model from a file to a folder named by
        its hash: all out of the way of the book's own records. There a cell may also be run again.

        Args:
            id: of a claim that ``book/claims.yml`` declares for this chapter.
            value: the measured value, in the claim's unit.
            ci: ends of its interval, 95 % unless the unit says otherwise; it must hold the value.
            n_seeds: training seeds behind the value, 0 for weights that were set by hand; the record
                names a seed where there is one.
            device, seed, weights: in place of the ledger's own.

        Raises:
            ValueError: for another chapter's or an undeclared id, one that another cell has
                measured, a value or an interval that is not finite, an interval without the value.
        """
        claim = self[id]
        cell = self._own_cell(claim)
        ci = None if ci is None else (float(ci[0]), float(ci[1]))
        return self._record(
            claim,
            float(value),
            ci,
            claim.threshold.verdict(value, ci),
            n_seeds,
            self.device if device is None else device,
            self.seed if seed is None else seed,
            cell,
            self.weights if weights is None else weights,
        )

    def lack(self, id: str, weights: str = "") -> Record:
        """Write that a claim could not be asked: its model lacks what the claim is about.

        It counts as not borne out.

        Args:
            id: as in `measure`. weights: of that model.

        Raises:
            ValueError: as in `measure`.
        """
        claim = self[id]
        cell = self._own_cell(claim)
        return self._record(claim, None, None, "fails", 1, self.device, self.seed, cell, weights)

    def _own_cell(self, claim: Claim) -> int | None:
        """The running cell; refused where another one, or this one before, has measured the claim."""
        cell = _running_cell()
        first = self._measured.get(claim.id)
        if first and (_is_batch_run() or cell in (None, first["cell"])):
            raise ValueError(
                f"{claim.place}: {claim.id} is measured twice, in cells {first['cell']} and "
                f"{cell}: measure it once"
            )
        return cell

    def close(self) -> None:
        """Record what the chapter did not measure: its model lacks what such a claim is about.

        It counts as not borne out. ``%%summary`` calls this at a chapter's end. A claim that needs
        other models is left out: it has not been run. So is all of a model from a file.
        """
        if self.file:
            return
        for id, claim in declared().items():
            if claim.chapter == self.chapter and id not in self._measured and not claim.needs:
                self._record(claim, None, None, "fails", 1, self.device, self.seed, None)

    def measure_models(self, id: str, values: Sequence[float]) -> Record:
        """`measure` a claim over models that differ in their seed: median, and range as interval.

        Args:
            values: one per model; of a single one it is the value, without an interval.
        """
        ci = (min(values), max(values)) if len(values) > 1 else None
        return self.measure(id, median(values), ci=ci, n_seeds=len(values))

    # The next three import where they are called: torch takes seconds, and who reads claims does
    # not need it.
    def measure_share(
        self, id: str, hits: Shaped[Tensor, " sample"] | int, cases: int = 0
    ) -> Record:
        """`measure` a share of cases, with its Wilson interval; 0 where there is no case.

        Args:
            hits: for each case whether it counts; or, with the number of cases, how many count.
        """
        from addlib.stats import wilson_interval

        if not isinstance(hits, int):
            cases = len(hits)
            hits = int(hits.sum())
        cases = max(cases, 1)
        return self.measure(id, hits / cases, ci=wilson_interval(hits, cases))

    def measure_means(
        self,
        id: str,
        values: Float[Tensor, "sample ..."],
        of: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> Record:
        """`measure` a mean over a sample, with its bootstrap interval.

        Args:
            of: makes one number of several means; ``torch.min`` for the smallest.
            seed: of the samples that are drawn again.
        """
        from addlib.stats import bootstrap_of

        value, ci = bootstrap_of(of or (lambda mean: mean), values, seed=seed)
        return self.measure(id, value, ci=ci)

    def measure_resampled(
        self,
        id: str,
        statistic: Callable[[Int[Tensor, " sample"]], float],
        count: int,
        draws: int = 500,
        seed: int = 0,
    ) -> Record:
        """`measure` any statistic of a sample, with its interval (`resampled_interval`).

        Args:
            statistic: of the members of a sample with these numbers.
            count: members of the sample.
            draws, seed: of the samples that are drawn again.
        """
        from torch import arange

        from addlib.stats import resampled_interval

        ci = resampled_interval(statistic, count, draws, seed)
        return self.measure(id, statistic(arange(count)), ci=ci)

    def _record(
        self,
        claim: Claim,
        value: float | None,
        ci: tuple[float, float] | None,
        verdict: str,
        n_seeds: int,
        device: torch.device | str,
        seed: int | None,
        cell: int | None,
        weights: str = "",
    ) -> Record:
        """Write a record, and keep it."""
        smoke = os.environ.get("ADDLIB_SMOKE") == "1"
        record = _texts(claim) | {
            "value": value,
            "ci": ci and list(ci),
            "n_seeds": n_seeds,
            "verdict": verdict,
            "device": _name(device),
            "revision": revision(),
            "seed": seed if n_seeds == 1 else None,
            "cell": cell,
            "smoke": smoke,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        }
        if weights:
            record["weights"] = weights
        if self.checkpoint and record["seed"] == self.seed:
            record["checkpoint"] = self.checkpoint
        _check(record)
        folder = self.file or ("smoke" if smoke else "" if _is_batch_run() else "by_hand")
        _write(results_dir() / "claims" / folder / f"{claim.id}.json", record)
        self._measured[claim.id] = record
        return record

    def outcome(self, id: str) -> str:
        """What became of a claim, in a line of Markdown: verdict, what was measured, threshold.

        Says so where this run has not measured it, and what a claim that has not been run needs.

        Raises:
            ValueError: for another chapter's or an undeclared id.
        """
        claim = self[id]
        record = self._measured.get(id)
        if record is None and claim.needs:
            predicted = claim.threshold.written(claim.unit)
            return (
                f"<b>not yet run</b> – {claim.metric}; predicted {predicted}; needs {claim.needs}"
            )
        if record is None:
            return f"<b>not measured in this run</b> – {claim.metric}"
        verdict = record["verdict"]
        word = f'<b class="addlib-verdict {verdict}">{VERDICTS[verdict].sign} {verdict}</b>'
        value = quantity(record["value"], claim.unit)
        if record["value"] is None:
            value = UNASKED
        elif record["ci"] and record["ci"][0] < record["ci"][1]:
            value += f" ({span(record['ci'], claim.unit)})"
        predicted = claim.threshold.written(claim.unit)
        line = f"{word} – {claim.metric}: **{value}**; predicted {predicted}"
        seeds = stored.on_other_seeds(claim)
        others = seeds and seeds.without(record["seed"])
        if others and set(others.verdicts.values()) != {verdict}:
            line += f"; on other models of the same recipe: {others.counted}"
        return line

    def on_other_seeds(self) -> dict[str, OverSeeds]:
        """What models of other seeds say of the measured claims that a record has, by id."""
        found = {id: stored.on_other_seeds(self[id]) for id in sorted(self._measured)}
        return {id: models for id, models in found.items() if models is not None}

    def beside_other_seeds(self) -> str:
        """In Markdown, for how many claims models of other seeds agree, and each one where not.

        Empty where no record has models of other seeds. The run's own model does not count.
        """
        found = {id: all.without(self.seed) for id, all in self.on_other_seeds().items()}
        others = {id: models for id, models in found.items() if models is not None}
        if not others:
            return ""
        seeds = max(len(models.verdicts) for models in others.values())
        differ = []
        for id, models in others.items():
            own = self._measured[id]["verdict"]
            if {*models.verdicts.values()} != {own}:
                differ.append(f"- {self[id].statement} Here: {own}; elsewhere it {models.counted}.")
        agree = f"this run's verdict for {len(others) - len(differ)} of {len(others)} claims"
        said = (
            f"The whole chapter was also run for {seeds} other seeds, with models of their own. They "
            f"all give {agree}"
        )
        if not differ:
            return f"{said}."
        return "\n".join([f"{said}, and at least one gives another for these:", "", *differ])

    def overview(self) -> pd.DataFrame:
        """One row per claim, as readers see it: what was said, predicted and measured, verdict."""
        rows = [
            (
                record["statement"],
                f"{record['metric']}: {quantity(record['value'], record['unit'])}",
                _predicted(record),
                _verdict(record),
            )
            for record in sorted(self.records, key=lambda record: record["id"])
        ]
        return pd.DataFrame(rows, columns=["claim", "measured", "predicted", "verdict"])

    def statements(self, prefix: str) -> pd.DataFrame:
        """One row per claim whose id begins so, as declared: with its interval and its refutation."""
        rows = []
        for record in self.records:
            if record["id"].startswith(prefix):
                value = quantity(record["value"], record["unit"])
                if record["ci"]:
                    value += f" ({span(record['ci'], record['unit'])})"
                measured = f"{record['metric']}: {value}; predicted {_predicted(record)}"
                refuted_by = self[record["id"]].refuted_by
                rows.append((record["statement"], measured, _verdict(record), refuted_by))
        return pd.DataFrame(rows, columns=["statement", "measured", "verdict", "refuted by"])

    def table(self) -> pd.DataFrame:
        """One row per claim, in the order of ids: threshold, value to two digits, verdict.

        Made for output cells that a regression run compares: no date, no device, no digits that
        arithmetic may change.
        """
        columns = ["id", "threshold", "value", "verdict"]
        rows = pd.DataFrame(self.records, columns=columns, dtype=object)
        rows = rows.set_index("id").sort_index()
        shown = ["–" if value is None else f"{value:.2g}" for value in rows["value"].tolist()]
        return rows.assign(value=shown)


def _predicted(record: Record) -> str:
    """A record's threshold as readers see it."""
    return Threshold.parse(record["threshold"]).written(record["unit"])


def _verdict(record: Record) -> str:
    """A record's verdict behind its sign."""
    return f"{VERDICTS[record['verdict']].sign} {record['verdict']}"


def collect(folder: str | Path | None = None, tolerant: bool = False) -> list[Record]:
    """Gather ``claims/*.json`` of a results folder into its ``claims.json``, in the order of ids.

    Every record is checked, and has the threshold that is declared now; its other texts are taken
    from the declaration. A chapter that ran to its end must have a cell for each of its claims, that
    measures it or says that its model lacks it.
    Files of chapters that are no more are left alone.

    Args:
        folder: the results folder; default `results_dir`.
        tolerant: gather what is sound, and print the faults.

    Raises:
        ValueError: with a line for each fault, which names the file and says what to do; nothing is
            written then.
    """
    folder = Path(folder) if folder is not None else results_dir()
    chapters = {claim.chapter for claim in declared().values()}
    records = []
    faults = []
    for path in sorted((folder / "claims").glob("*.json")):
        try:
            record = _read(path, chapters)
        except ValueError as error:
            faults.append(f"{path}: {error}; delete the file or run its chapter again")
        else:
            records += [record] if record else []
    files = {path.stem for path in (folder / "claims").glob("*.json")}
    lacking = {
        record["id"] for record in records if record["value"] is None and record["cell"] is None
    }
    for id, claim in declared().items():
        executed = folder / "executed" / f"{claim.chapter}.ipynb"
        if not executed.is_file() or (id in files and id not in lacking):
            continue
        if claim.needs and id not in files:
            continue
        if id not in files or f'"{id}"' not in _code(executed):
            faults.append(
                f"{claim.place}: {id} is declared, and {claim.chapter} does not measure it: measure "
                f"it there, or take the declaration out"
            )
    if faults and not tolerant:
        raise ValueError("\n".join(faults))
    if faults:
        print("\n".join(faults))
    _write(folder / "claims.json", records)
    return records


def _code(notebook: Path) -> str:
    """The source of a notebook's code cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def _is_batch_run() -> bool:
    """Whether a program runs the notebook: it says where results go, and a person does not."""
    return "ADDLIB_RESULTS" in os.environ


def _running_cell() -> int | None:
    """Execution count of the cell that runs now; None outside of a notebook."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return None
    # newer versions raise shell.execution_count before the cell runs, older ones after it
    return len(shell.history_manager.input_hist_raw) - 1


def _texts(claim: Claim) -> Record:
    return {key: str(getattr(claim, key) or "") for key in DECLARED}


def _check(record: Record) -> None:
    """Refuse a value or an interval that no run can have measured."""
    value = record["value"]
    if value is None and record["ci"] is None and record["verdict"] == "fails":
        return  # the model lacks what the claim is about
    low, high = record["ci"] or (value, value)
    finite = all(isinstance(x, float) and math.isfinite(x) for x in (low, value, high))
    if not finite or not low <= value <= high:
        raise ValueError(f"value {value!r} in [{low!r}, {high!r}]: must be finite, in that order")


def _read(path: Path, chapters: Collection[str]) -> Record | None:
    """A record with the texts of its declaration; None for a chapter that is none of these.

    Raises:
        ValueError: the file is no sound record.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(record, dict) and record.get("chapter", "") not in {"", *chapters}:
        return None
    if not isinstance(record, dict) or not record.keys() >= {*DECLARED, *MEASURED}:
        raise ValueError(f"is no record: that has {', '.join((*DECLARED, *MEASURED))}")
    if record["id"] != path.stem or record["smoke"]:
        raise ValueError("is a smoke run's, or named otherwise than its id")
    claim = Ledger(record["chapter"])[record["id"]]
    _check(record)
    verdict = "fails"
    if record["value"] is not None:
        verdict = claim.threshold.verdict(record["value"], record["ci"])
    if (record["threshold"], record["verdict"]) != (str(claim.threshold), verdict):
        raise ValueError(
            f"was measured against {record['threshold']} ({record['verdict']}), and "
            f"{claim.place} declares {claim.threshold} ({verdict})"
        )
    return record | _texts(claim)


def _name(device: torch.device | str) -> str:
    """A device's own name; a text is one already."""
    if isinstance(device, str):
        return device
    # Here, since torch takes seconds and who reads claims does not need it.
    from addlib.device import device_name

    return device_name(device)


def _write(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, text.encode())


def main() -> None:
    """Command line; the exit status is 1 where a record is refused or missing."""
    parser = argparse.ArgumentParser(prog="python -m addlib.claims.ledger", description=__doc__)
    parser.add_argument("command", choices=["collect"], help="gather claims/*.json, checked")
    parser.add_argument("--results", help="folder (default: ADDLIB_RESULTS, else ./results)")
    parser.add_argument("--tolerant", action="store_true", help="gather what is sound all the same")
    options = parser.parse_args()
    try:
        records = collect(options.results, options.tolerant)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    counts = Counter(record["verdict"] for record in records)
    print(f"{len(records)} claims: " + ", ".join(f"{counts[name]} {name}" for name in VERDICTS))


if __name__ == "__main__":
    main()

"""Whether the days on which claims were registered are true, read from the history of claims.yml.

    python -m workflow.registration    prints what is not; the exit status is 1 then

``registered:`` says since when a claim's threshold has stood. Each threshold that it had later must
be named in ``changes:``, and a claim that was registered may leave the book only by way of the page
of errata, or under another id: ``changes: "2026-11-27, was 12.helix-is-used: moved"``. Where there
is no history (an archive, a shallow clone), the days are the authors' word.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import yaml

from addlib.claims.claim import Claim, declared
from addlib.claims.threshold import Threshold
from workflow.chapters import ROOT

CLAIMS = "book/claims.yml"


@dataclass(frozen=True)
class Version:
    """The declarations as they stood after a commit.

    Args:
        day: of the commit. thresholds: by id. registered: the ids that had a day.
    """

    day: date
    thresholds: Mapping[str, str]
    registered: frozenset[str] = frozenset()


def faults(claims: Mapping[str, Claim], history: Sequence[Version], errata: str) -> Iterator[str]:
    """What the history denies.

    Args:
        claims: as declared now. history: oldest first. errata: text of the page.
    """
    for claim in claims.values():
        stood = [version for version in history if claim.id in version.thresholds]
        if claim.registered is None:
            continue
        if stood and claim.registered < stood[0].day:
            yield (
                f"{claim.place}: {claim.id} is registered on {claim.registered}, and was first "
                f"declared on {stood[0].day}: write that day"
            )
        before = [version for version in stood if version.day <= claim.registered]
        later = [version for version in stood if version.day > claim.registered]
        earlier = {version.thresholds[claim.id] for version in (*before[-1:], *later)}
        for threshold in sorted(earlier - {str(claim.threshold)}):
            if threshold not in claim.changes:
                yield (
                    f"{claim.place}: the threshold of {claim.id} was {threshold}, on or after "
                    f"{claim.registered}: say in changes: when it became {claim.threshold}, and why"
                )
    gone = {id for version in history for id in version.registered} - claims.keys()
    for id in sorted(gone):
        heir = next((claim for claim in claims.values() if f"was {id}:" in claim.changes), None)
        stood_last = [v.thresholds[id] for v in history if id in v.thresholds][-1]
        if heir is None and id not in errata:
            yield f"{id} was registered and is no longer declared: say why in book/errata.md"
        elif heir and stood_last != str(heir.threshold) and stood_last not in heir.changes:
            yield (
                f"{heir.place}: {heir.id} was {id}, whose threshold was {stood_last}: say in "
                f"changes: why it became {heir.threshold}"
            )


def history() -> list[Version] | None:
    """All versions of the declarations, oldest first; None without the whole history."""
    if _git("rev-parse", "--is-shallow-repository") != "false":
        return None
    commits = _git("log", "--reverse", "--format=%H %cs", "--", CLAIMS) or ""
    versions = []
    for line in commits.splitlines():
        commit, day = line.split()
        text = _git("show", f"{commit}:{CLAIMS}")
        if text is not None:
            versions.append(read_version(text, date.fromisoformat(day)))
    return versions


def read_version(text: str, day: date) -> Version:
    """The thresholds in a text of claims.yml, written as today's are."""
    chapters = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    entries = {id: entry for chapter in chapters.values() for id, entry in (chapter or {}).items()}
    thresholds = {id: str(Threshold.parse(entry["threshold"])) for id, entry in entries.items()}
    registered = frozenset(id for id, entry in entries.items() if entry.get("registered"))
    return Version(day, thresholds, registered)


def _git(*arguments: str) -> str | None:
    """What git prints; None where it fails, or isn't there."""
    try:
        run = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip("\n")


def main() -> int:
    """Command line; the exit status is 1 where a day is not true."""
    versions = history()
    if versions is None:
        print("No whole history here (git fetch --unshallow fetches it): nothing was compared.")
        return 0
    errata = (ROOT / "book" / "errata.md").read_text(encoding="utf-8")
    found = list(faults(declared(), versions, errata))
    print("\n".join(found) or f"{len(versions)} versions of {CLAIMS}: all days are true.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""What models of other training seeds say of a claim, and the verdict over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from addlib.claims.claim import Claim
from addlib.claims.threshold import VERDICTS, Verdict

DIFFERS = "differs"
"""The verdict over models that do not agree."""

OUTCOMES = VERDICTS | {
    DIFFERS: Verdict("≈", "differs between seeds", "differ between seeds"),
}
"""What can become of a claim over several models, in the order in which readers see it."""

RECORDS = ("seeds", "shelves", "carry_5000", "toy", "grokking", "small_models")
"""Records of chapters that were run on models of other seeds, with the chapters' own recipes."""

MOST = 0.8
"""Share of the models whose verdict stands for all of them."""


@dataclass(frozen=True)
class OverSeeds:
    """A claim's verdict on each of several models that differ in their training seed.

    Args:
        values: measured, by seed; None where the model lacks what the claim is about.
        verdicts: by seed; a model that lacks it does not bear the claim out: ``fails``.
        measured: the day.
    """

    values: Mapping[int, float | None]
    verdicts: Mapping[int, str]
    measured: date

    @property
    def verdict(self) -> str:
        """The verdict of at least four models in five, else ``differs``."""
        word, count = Counter(self.verdicts.values()).most_common(1)[0]
        return word if count >= MOST * len(self.verdicts) else DIFFERS

    @property
    def agree(self) -> bool:
        """Whether all models give one verdict."""
        return len(set(self.verdicts.values())) == 1

    @property
    def measured_values(self) -> list[float]:
        """The values, without models that lack what the claim is about."""
        return [value for value in self.values.values() if value is not None]

    @property
    def counted(self) -> str:
        """How many models give each verdict: ``holds in 4 of 5 seeds, fails in 1``."""
        counts = Counter(self.verdicts.values())
        parts = [
            f"{verdict.one} in {counts[name]}" for name, verdict in VERDICTS.items() if counts[name]
        ]
        parts[0] += f" of {len(self.verdicts)} seeds"
        return ", ".join(parts)

    def confirms(self, claim: Claim) -> bool:
        """Whether the claim holds on every seed that nobody had looked at, and there is one.

        Its threshold must have been registered before the day of the measurement.
        """
        new = self.verdicts.keys() - claim.seeds_seen
        in_time = claim.registered is not None and claim.registered < self.measured
        return in_time and bool(new) and all(self.verdicts[seed] == "holds" for seed in new)

    def without(self, seed: int | None) -> OverSeeds | None:
        """The same without the model of this seed; None where no other is left."""
        values = {other: value for other, value in self.values.items() if other != seed}
        verdicts = {other: self.verdicts[other] for other in values}
        return OverSeeds(values, verdicts, self.measured) if values else None

    def with_model(self, seed: int, value: float | None, verdict: str) -> OverSeeds:
        """The same with this model's measurement, in place of one of the same seed."""
        return OverSeeds(
            {**self.values, seed: value}, {**self.verdicts, seed: verdict}, self.measured
        )


def over_seeds(claim: Claim, record: Mapping[str, Any]) -> OverSeeds | None:
    """A claim in a record over seeds; None where that has no models of several seeds for it.

    So it is where the threshold was another one, and where all runs measured one and the same
    model, whose training is stored. Else a seed with which the chapter ran, and that has no value
    for the claim, had a model without what the claim is about.

    Args:
        record: of :func:`addlib.claims.stored.read`.
    """
    entry = record["claims"].get(claim.id)
    if entry is None or entry["threshold"] != str(claim.threshold) or len(entry["seeds"]) == 1:
        return None
    own = [other for other in record["claims"].values() if other["chapter"] == entry["chapter"]]
    seeds = dict.fromkeys(seed for other in own for seed in other["seeds"])
    values = dict(zip(entry["seeds"], entry["values"], strict=True))
    verdicts = dict(zip(entry["seeds"], entry["verdicts"], strict=True))
    return OverSeeds(
        {seed: values.get(seed) for seed in seeds},
        {seed: verdicts.get(seed, "fails") for seed in seeds},
        date.fromisoformat(record["date"]),
    )

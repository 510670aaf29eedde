"""The claims page: numbers as people write them, every claim once in squares and table, links to
its cell.
"""

from __future__ import annotations

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workflow.claims_page import add_claim_targets, add_ledger, ledger, number, score, squares

TITLES = {"01_first": "Is it <so>?", "02_second": "And this?"}


def record(name: str, verdict: str, **other: object) -> dict:
    chapter = next(title for title in TITLES if title.startswith(name[:2]))
    every = dict(
        id=name,
        chapter=chapter,
        statement=f'It is "{name}" | so',
        source="this chapter",
        threshold="<= 1e-05",
    )
    every |= dict(
        value=3.1e-6, ci=[1.0e-6, 5e-6], n_seeds=2, verdict=verdict, device="cpu", revision="abc"
    )
    return every | other


RECORDS = [
    record("02.b", "fails", ci=None),
    record("01.c", "holds"),
    record("01.a", "inconclusive", source="Ada (1843)"),
]


WRITTEN = {
    0.01584: "0.0158",
    2000: "2,000",
    -0.5: "−0.5",
    0: "0",
    123456: "123,000",
    2.4e-6: "2.4 × 10<sup>−6</sup>",
    1e-5: "10<sup>−5</sup>",
    -3e7: "−3 × 10<sup>7</sup>",
}


@pytest.mark.parametrize("value", WRITTEN)
def test_numbers_are_written_as_people_do(value: float) -> None:
    assert number(value) == WRITTEN[value]


def test_the_score_counts_every_verdict() -> None:
    assert score(RECORDS) == "3 measured; 1 holds, 1 fails, 1 is inconclusive."
    assert score(RECORDS * 2) == "6 measured; 2 hold, 2 fail, 2 are inconclusive."


def test_each_claim_has_one_square_in_its_chapters_row() -> None:
    rows = re.findall("<li>.*?</li>", squares(RECORDS, TITLES))
    assert [re.findall('<a class="(holds|fails|inconclusive)"', row) for row in rows] == [
        ["holds", "inconclusive"],
        ["fails"],
    ]
    assert 'title="Is it &lt;so&gt;?"' in rows[0]
    assert 'href="../notebooks/02_second.html"' in rows[1]


def test_the_table_has_each_claim_once_in_order() -> None:
    lines = ledger(RECORDS, "", smoke=False).splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| [")]
    assert [row[0].strip() for row in rows] == [
        "[01.a](../notebooks/01_first.ipynb)",
        "[01.c](../notebooks/01_first.ipynb)",
        "[02.b](../notebooks/02_second.ipynb)",
    ]
    assert rows[0][1].strip() == r'It is "01.a" \| so *(Ada (1843))*'
    assert [cell.strip() for cell in rows[1][2:]] == [
        "≤ 10<sup>−5</sup>",
        "3.1 × 10<sup>−6</sup>",
        "10<sup>−6</sup> to 5 × 10<sup>−6</sup>",
        "2",
        "**✓ holds**",
    ]
    assert rows[2][4].strip() == "–"
    assert "mean nothing" in ledger(RECORDS, "", smoke=True)


def test_a_claim_leads_to_the_cell_that_measures_it(tmp_path) -> None:
    notebook = new_notebook(
        cells=[new_markdown_cell("01.a"), new_code_cell('Claim("01.a")'), new_code_cell('"01.a"')]
    )
    records = [record("01.a", "holds"), record("01.c", "holds")]
    add_claim_targets(notebook, records)
    assert [cell.source for cell in notebook.cells][1] == "(claim-01-a)="
    assert [claim.get("target") for claim in records] == ["claim-01-a", None]

    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.md").write_text("# Claims\n", encoding="utf-8")
    add_ledger(tmp_path, records, TITLES, smoke=False)
    page = (tmp_path / "book" / "claims.md").read_text(encoding="utf-8")
    assert "[01.a](#claim-01-a)" in page
    assert 'href="../notebooks/01_first.html#claim-01-a"' in page
    generated = tmp_path / "book" / "_generated"
    assert score(records) in (generated / "score.md").read_text(encoding="utf-8")
    front = (generated / "claims.md").read_text(encoding="utf-8")
    assert front.count('<a class="holds"') == 2


def test_no_claims_is_said() -> None:
    assert "No claim has been measured" in ledger([], "", smoke=False)

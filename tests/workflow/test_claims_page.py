"""The claims page: every claim once in squares and table, links to its cell; fields of the first page."""

from __future__ import annotations

import json
import re
from datetime import date

import nbclient
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from addlib.claims import stored
from addlib.claims.claim import declared
from addlib.claims.over_seeds import OverSeeds
from workflow.chapters import ROOT, Results, WorkflowError
from workflow.claims_page import (
    add_claim_targets,
    add_ledger,
    judged,
    ledger,
    score,
    squares,
    with_claims,
)
from workflow.stage_site import stage

TITLES = {"01_first": "Is it <so>?", "02_second": "And this?"}


def record(name: str, verdict: str, **other: object) -> dict:
    chapter = next(title for title in TITLES if title.startswith(name[:2]))
    every = dict(
        id=name,
        chapter=chapter,
        statement=f'It is "{name}" | so',
        source="this chapter",
        metric="largest difference",
        unit="ratio",
        threshold="<= 1e-05",
    )
    every |= dict(
        value=3.1e-6, ci=[1.0e-6, 5e-6], n_seeds=2, verdict=verdict, device="cpu", revision="abc"
    )
    every |= dict(kind="claim", registered="", seen="", seed=None)
    every |= dict(models=None, outcome=verdict, confirmed=False, old=None)
    return every | other


RECORDS = [
    record("02.b", "fails", ci=None),
    record(
        "01.c", "holds", unit="ratio; range over models", seen="seed 1", registered="2026-11-26"
    ),
    record("01.a", "inconclusive", source="Ada (1843)"),
    record("02.d", "holds", kind="check"),
]

MODELS = OverSeeds(
    {1: 0.5, 2: 0.6, 3: None}, {1: "holds", 2: "holds", 3: "fails"}, date(2026, 11, 30)
)


def test_the_page_says_which_weights_a_language_models_claims_are_of() -> None:
    of_two = [
        record("01.a", "holds", weights="Big, 4 bits"),
        record("02.b", "fails", weights="Small"),
    ]
    of_two.append(record("01.c", "holds", weights="Big, 4 bits"))
    page = ledger(of_two, "", smoke=False)
    assert "Weights of language models, by chapter: Big, 4 bits: 01; Small: 02." in page
    assert page.count("weights: Big, 4 bits") == 2
    assert "eights" not in ledger(RECORDS, "", smoke=False)


def test_the_score_counts_claims_and_not_checks() -> None:
    assert score(RECORDS) == (
        "3 claims: 1 holds, 1 fails, 1 is inconclusive. 0 of them are confirmed: they hold on every "
        "training seed that nobody had looked at when the threshold was set. 1 verdicts rest on a 95% "
        "interval, and such an interval misleads in at most one case in 40: expect up to 1 of them to "
        "be wrong by chance. 1 of 1 check of the code passed."
    )
    many = [*RECORDS * 50, record("02.e", "fails", kind="check")]
    assert "150 claims: 50 hold, 50 fail, 50 are inconclusive." in score(many)
    assert "50 verdicts rest on a 95% interval" in score(many)
    assert "up to 2 of them" in score(many)
    assert score(many).endswith("50 of 51 checks of the code passed, 1 failed.")
    undecided = [*many, record("02.f", "inconclusive", kind="check")]
    assert score(undecided).endswith("50 of 52 checks of the code passed, 1 failed, 1 undecided.")
    confirmed = record("01.f", "holds", models=MODELS, outcome="differs", confirmed=True)
    assert score([confirmed]).startswith("1 claim: 1 differs between seeds. 1 of them is confirmed")


def test_each_claim_has_one_square_in_its_chapters_row_and_checks_come_last() -> None:
    drawn = squares([*RECORDS, record("02.a", "holds", outcome="differs")], TITLES)
    rows = re.findall("<li>.*?</li>", drawn)
    assert [re.findall('<a class="((?!chapter)[a-z]+(?: check)?)" ', row) for row in rows] == [
        ["holds", "inconclusive"],
        ["fails", "differs", "holds check"],
    ]
    assert 'title="Is it &lt;so&gt;?"' in rows[0]
    assert 'href="../notebooks/02_second.html"' in rows[1]
    assert 'data-verdicts="holds fails inconclusive differs"' in drawn


def test_the_table_has_each_claim_once_in_order_and_checks_apart() -> None:
    page = ledger(RECORDS, "", smoke=False)
    claims, checks, _ = page.split("{dropdown}")
    assert "[02.d]" not in claims
    assert "[02.d]" in checks
    rows = [
        re.split(r"(?<!\\)\|", line)[1:-1] for line in claims.splitlines() if line.startswith("| [")
    ]
    assert [row[0].strip() for row in rows] == [
        "[01.a](../notebooks/01_first.ipynb)",
        "[01.c](../notebooks/01_first.ipynb)",
        "[02.b](../notebooks/02_second.ipynb)",
    ]
    assert rows[0][1].strip() == r'It is "01.a" \| so *(Ada (1843))*'
    assert [cell.strip() for cell in rows[1][2:]] == [
        "≤ 10⁻⁵",
        "<details><summary>3.1 × 10⁻⁶ (10⁻⁶ to 5 × 10⁻⁶)</summary>largest difference; in brackets: "
        "range over models; threshold unchanged since 2026-11-26, set after a look at seed 1</details>",
        '<span title="2 training seeds, behind one value">2</span>',
        '<strong data-chapter="01" data-verdict="holds" title="holds">✓ holds</strong>',
    ]
    assert "largest difference; exploratory: no day of registration" in rows[2][3]
    assert "mean nothing" in ledger(RECORDS, "", smoke=True)


def test_claims_that_need_other_models_are_listed_until_they_are_run() -> None:
    needs = [claim for claim in declared().values() if claim.needs]
    page = ledger(RECORDS, "", smoke=False)
    rows = page.rpartition("{dropdown} Not yet run")[2].splitlines()
    shown = [row.split("|")[1].strip() for row in rows if re.match(r"\| \d", row)]
    assert shown == [claim.id for claim in needs]
    assert needs[0].threshold.written(needs[0].unit) in page
    run = RECORDS + [record("01.a", "holds") | {"id": claim.id} for claim in needs]
    assert "Not yet run" not in ledger(run, "", smoke=False)


def test_models_of_other_seeds_have_a_sign_each() -> None:
    rows = ledger([record("01.a", "holds", models=MODELS, outcome="differs")], "", smoke=False)
    assert (
        '| 3 <span title="seed 1: 0.5">✓</span><span title="seed 2: 0.6">✓</span>'
        '<span title="seed 3: could not be asked">✗</span> |' in rows
    )
    assert 'title="holds in 2 of 3 seeds, fails in 1">≈ differs</strong>' in rows


def test_a_number_of_models_says_which_they_are() -> None:
    of = {
        "01.a": {"n_seeds": 0},
        "01.c": {"n_seeds": 1, "seed": 7},
        "02.b": {"n_seeds": 1, "seed": 0, "weights": 'Big "4 bits"'},
        "02.d": {"n_seeds": 5},
    }
    rows = ledger([record(id, "holds", **which) for id, which in of.items()], "", smoke=False)
    assert '| <span title="weights that nobody trained">by hand</span> |' in rows
    assert '| <span title="training seed 7">1</span> |' in rows
    assert '| <span title="Big &quot;4 bits&quot;">1 LLM</span> |' in rows
    assert '| <span title="5 training seeds, behind one value">5</span> |' in rows


def test_a_model_that_lacks_it_has_no_value_to_show() -> None:
    rows = ledger([record("01.a", "fails", value=None, ci=None)], "", smoke=False)
    assert "<summary>could not be asked</summary>" in rows


def test_the_verdict_is_that_of_all_seeds(monkeypatch) -> None:
    """This run's measurement takes the place of the record's of the same seed."""
    entry = dict(
        chapter="04_us9_cascades",
        threshold=str(declared()["04.off-by-one"].threshold),
        seeds=[1, 2, 3],
        values=[0.99, 0.98, 0.5],
        verdicts=["holds", "holds", "fails"],
    )
    sweep = {"date": "2026-11-30", "claims": {"04.off-by-one": entry}, "made_by": "make sweep"}
    monkeypatch.setattr(stored, "read_those", lambda *names: [sweep])
    measured = record("01.c", "holds") | {"id": "04.off-by-one", "seed": 3}
    assert judged(measured)["outcome"] == "holds"
    assert judged(measured | {"verdict": "fails"})["outcome"] == "differs"
    assert judged(measured | {"verdict": "fails"}, smoke=True)["outcome"] == "fails"
    entry["threshold"] = ">= 0.123"  # measured against another one: says nothing of this claim
    old = judged(measured | {"verdict": "fails"})
    assert old["outcome"] == "fails"
    row = ledger([old], "", smoke=False)
    assert (
        '<em title="3 models of 2026-11-30 against &gt;= 0.123, another threshold than today&#x27;s; '
        'make sweep makes them again">old record</em>' in row
    )


def test_the_first_page_says_what_was_measured() -> None:
    accuracy = record("02.accuracy", "holds", value=0.98349, unit="fraction", target="claim-a")
    text = "Right in {02.accuracy} ({02.accuracy verdict}), ends {02.ends-first}; ${{5}}$."
    assert with_claims(text, [accuracy]) == (
        'Right in 98.3% ([✓ holds](#claim-a "02.accuracy")), ends –; ${{5}}$.'
    )
    assert with_claims("{02.accuracy predicted}, {02.ends-first predicted}", []) == "≥ 98.7%, ≤ 0.5"
    several = record("02.accuracy", "holds", value=0.5, unit="fraction", models=MODELS)
    text = "{02.accuracy models}: {02.accuracy range}"
    assert with_claims(text, [several]) == "2 of 3: 50% to 60%"
    assert with_claims(text, [accuracy]) == "1 of 1: 98.3%"
    lacks = record("02.accuracy", "fails", value=None, unit="fraction")
    assert with_claims(text, [lacks]) == "0 of 1: –"
    assert with_claims(text, []) == "–: –"
    with pytest.raises(WorkflowError, match=r"has no claim 02\.acuracy"):
        with_claims("{02.acuracy}", [])


def test_no_claims_is_said() -> None:
    assert "No claim has been measured" in ledger([], "", smoke=False)


# --------------------------------------------------------------------------- links
def test_a_claim_leads_to_the_cell_that_measured_it(tmp_path) -> None:
    """Not to another one with its id in it, however close."""
    cells = [
        new_markdown_cell("01.a"),
        new_code_cell('"01.a", "01.c"', execution_count=3),
        new_code_cell("for claim in both: claims.measure(claim, 1)", execution_count=5),
        new_code_cell("never ran"),
    ]
    notebook = new_notebook(cells=cells)
    records = [record("01.a", "holds", cell=5), record("01.c", "holds", cell=5)]
    records += [record("01.d", "holds", cell=4), record("01.e", "holds", cell=None)]
    assert [claim["id"] for claim in add_claim_targets(notebook, records)] == ["01.d", "01.e"]
    assert [cell.source for cell in notebook.cells[2:5]] == [
        "(claim-01-a)=",
        "(claim-01-c)=",
        "for claim in both: claims.measure(claim, 1)",
    ]
    assert [claim.get("target") for claim in records] == ["claim-01-a", "claim-01-c", None, None]

    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.md").write_text("# Claims\n", encoding="utf-8")
    for name in ("index.md", "errata.md"):
        (tmp_path / "book" / name).write_text("{02.accuracy predicted}", encoding="utf-8")
    add_ledger(tmp_path, records, TITLES, smoke=False)
    page = (tmp_path / "book" / "claims.md").read_text(encoding="utf-8")
    assert "[01.a](#claim-01-a)" in page
    assert 'href="../notebooks/01_first.html#claim-01-a"' in page
    for name in ("index.md", "errata.md"):
        assert (tmp_path / "book" / name).read_text(encoding="utf-8") == "≥ 98.7%"
    generated = tmp_path / "book" / "_generated"
    judged_records = [judged(record) for record in records]
    assert score(judged_records) in (generated / "score.md").read_text(encoding="utf-8")
    front = (generated / "claims.md").read_text(encoding="utf-8")
    assert front.count('<a class="holds"') == 4


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Results:
    """A run of chapter 01 that measures its claims, the second one in a loop."""
    results = Results(tmp_path_factory.mktemp("results"))
    sources = [
        f"import os\nos.environ['ADDLIB_RESULTS'] = {str(results.folder)!r}\n"
        "os.environ.pop('ADDLIB_SMOKE', None)\n"
        "from addlib.claims.ledger import Ledger\nclaims = Ledger('01_setup')",
        "names = ['01.class-shares', '01.short-forward']",
        "claims.measure(names[0], 1.0);",
        "for name in names[1:]:\n    claims.measure(name, 1e-6)",
    ]
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    client = nbclient.NotebookClient(notebook, kernel_name="python3")
    with client.setup_kernel(cwd=str(ROOT)):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index, execution_count=index + 1)
    results.executed("01_setup").parent.mkdir()
    nbformat.write(notebook, results.executed("01_setup"))
    records = [json.loads(path.read_text()) for path in (results.folder / "claims").iterdir()]
    (results.folder / "claims.json").write_text(json.dumps(records))
    return results


def test_a_record_knows_the_cell_that_measured_it(run: Results) -> None:
    cells = {record["id"]: record["cell"] for record in run.claims()}
    assert cells == {"01.class-shares": 3, "01.short-forward": 4}


def test_the_staged_chapter_has_each_target_before_the_measuring_cell(run: Results, tmp_path):
    stage(run, tmp_path / "stage")
    staged = nbformat.read(tmp_path / "stage" / "notebooks" / "01_setup.ipynb", as_version=4)
    sources = [cell.source for cell in staged.cells]
    for name, measures in (("class-shares", "names[0], 1.0"), ("short-forward", "names[1:]")):
        assert measures in sources[sources.index(f"(claim-01-{name})=") + 1]


def test_a_claim_without_its_cell_is_staged_in_a_tolerant_build_only(run: Results, tmp_path):
    notebook = nbformat.read(run.executed("01_setup"), as_version=4)
    del notebook.cells[3]
    results = Results(tmp_path / "results")
    results.executed("01_setup").parent.mkdir(parents=True)
    nbformat.write(notebook, results.executed("01_setup"))
    (results.folder / "claims.json").write_bytes((run.folder / "claims.json").read_bytes())
    complaint = r"cell that measured 01\.short-forward \(cell 4\): run 01_setup again"
    with pytest.raises(WorkflowError, match=complaint):
        stage(results, tmp_path / "stage")
    stage(results, tmp_path / "stage", tolerant=True)
    page = (tmp_path / "stage" / "book" / "claims.md").read_text(encoding="utf-8")
    assert "[01.short-forward](../notebooks/01_setup.ipynb)" in page
    assert "[01.class-shares](#claim-01-class-shares)" in page

"""Claims over models of two kinds, from made-up records."""

import pytest

from addlib.claims import stored
from addlib.claims.claim import declared
from addlib.claims.model_kinds import (
    CHAPTER,
    DECLARED_LATER,
    OF_SECOND_KIND,
    over_kinds,
    over_shapes,
    predictions,
    shape_table,
)


def record(values, fails=()):
    """A record of three models; the third has no second axis."""
    claims = {}
    for id in (*predictions(), "08.second-axis", "08.adds-well"):
        claims[id] = {
            "seeds": [101, 102, 103],
            "values": values.get(id, [1.0, 1.0, 1.0]),
            "verdicts": ["fails" if (id, seed) in fails else "holds" for seed in (101, 102, 103)],
        }
    return {"claims": claims}


LATE = ("08.second-axis", 103)


def test_records_that_are_not_made_are_left_out():
    assert [made["made_by"] for made in stored.read_those("none_such", "seeds")] == [
        stored.read("seeds")["made_by"]
    ]


def test_without_records_nothing_has_been_run():
    assert over_kinds([]) == {}


def test_a_record_that_lacks_cells_says_nothing_yet():
    some = record({"08.plane-followed": [0.9, 0.9, 0.9]}, [LATE]) | {"missing": ["seed-104"]}
    assert over_kinds([some]) == {}
    assert over_shapes([some]) == {}
    whole = record({}, [LATE]) | {"missing": []}
    assert over_kinds([whole, some]) == over_kinds([whole])


def test_kinds_are_counted_and_the_worst_model_of_the_second_stands():
    values = {"08.surest-300": [0.2, 0.3, 0.9], "08.third-axis": [0.5, 0.5, 0.03]}
    later = {"08.surest-300": [0.2, 0.3, 0.95], "08.third-axis": [0.5, 0.5, 0.06]}
    found = over_kinds([record(values, [LATE]), record(later, [LATE])])
    assert found["08.both-kinds"] == (1, 3)
    assert found["08.first-kind-all"] == (0, 3)
    assert found["08.second-kind-surest-300"] == (0.9, 2)
    assert found["08.second-kind-third-axis"] == (0.06, 2)
    assert set(found) == {"08.both-kinds", "08.first-kind-all", *OF_SECOND_KIND}


def test_a_prediction_that_fails_on_a_model_of_the_first_kind_counts_and_on_the_second_not():
    missed = [LATE, ("08.nine-cells", 101), ("08.nine-cells", 102), ("08.plane-kept", 103)]
    assert over_kinds([record({}, missed)])["08.first-kind-all"].value == 1


def test_a_prediction_that_was_not_measured_counts_as_failed():
    some = record({}, [LATE])
    del some["claims"]["08.nine-cells"]
    assert over_kinds([some])["08.first-kind-all"].value == 1


def test_models_of_one_kind_leave_the_other_kind_not_run():
    found = over_kinds([record({})])
    assert found["08.both-kinds"].value == 0
    assert not set(found) & set(OF_SECOND_KIND)


def test_a_model_of_the_second_kind_without_a_value_is_refused():
    some = record({"08.surest-300": [1.0, 1.0, None]}, [LATE])
    with pytest.raises(ValueError, match=r"08\.surest-300: seed 103"):
        over_kinds([some])


def test_every_claim_over_models_is_declared_to_need_them():
    of_chapter = {id: claim for id, claim in declared().items() if claim.chapter == CHAPTER}
    needs = {id for id, claim in of_chapter.items() if claim.needs}
    assert needs == {"08.both-kinds", "08.first-kind-all", "08.other-shapes", *OF_SECOND_KIND}


def test_predictions_added_later_are_not_about_kinds():
    assert not set(predictions()) & set(DECLARED_LATER)
    assert set(DECLARED_LATER) <= set(declared())


def test_shapes_count_where_they_add_well():
    values = {"08.adds-well": [0.99, 0.5, 0.98], "08.plane-followed": [0.9, 0.1, 0.85]}
    assert over_shapes([record(values)]) == {"08.other-shapes": (0.85, 2)}
    values["08.plane-followed"][2] = None
    assert over_shapes([record(values)])["08.other-shapes"].value == 0
    assert over_shapes([record({"08.adds-well": [0.9, 0.5, 0.1]})]) == {}
    assert over_shapes([]) == {}


def test_the_table_of_shapes_has_a_row_for_each_model():
    some = record({"08.adds-well": [0.99, 0.5, 0.98]})
    del some["claims"]["08.third-axis"]["seeds"][2]
    for columns in ("values", "verdicts"):
        del some["claims"]["08.third-axis"][columns][2]
    shapes = [{"n_heads": 2}, {"width": 256, "lr": 2e-4}, {"steps": 30000}]
    some["runs"] = {
        str(seed): {"seed": seed, "parameters": shape}
        for seed, shape in zip((101, 102, 103), shapes, strict=True)
    }
    rows = shape_table([some])
    assert list(rows["shape"]) == ["2 heads", "width 256, rate 0.0002", "30,000 steps"]
    assert list(rows["right"]) == [0.99, 0.5, 0.98]
    assert list(rows["third axis"][:2]) == [1.0, 1.0]
    assert rows["third axis"].isna().tolist() == [False, False, True]
    assert list(shape_table([some | {"missing": ["x"]}])) == list(shape_table([])) == list(rows)

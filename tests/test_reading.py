"""Readings: fields come from the run, a hole is refused, and a condition that fails is said."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from addlib.reading import chosen, filled, over_models, value_of, written

NUMBERS = {
    "loss": np.float32(0.03149),
    "share": torch.tensor(0.921),
    "run": SimpleNamespace(steps=5000),
    "levels": {"A5": 0.6931},
    "half": Fraction(1, 2),
    "width": 6,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Loss {loss:.3f}, {share:.0%} right.", "Loss 0.031, 92% right."),
        ("{run.steps:,} steps, {levels['A5']:.2f}", "5,000 steps, 0.69"),
        ('{levels["A5"] * 100:.0f} {half.numerator}', "69 1"),
        ("$x^{{2}}$, $A_{{{width}}}$", "$x^{2}$, $A_{6}$"),
        (r"$\ln 2$ and \n", r"$\ln 2$ and \n"),
        ("{'as' if width > 5 else 'not as'} wide: {width!r:>{width}}", "as wide:      6"),
        ("A list:\n\n- one\n- two\n", "A list:\n\n- one\n- two"),
        ('It says "yes"', 'It says "yes"'),
        ("{', '.join(f'{n:.1f}' for n in [loss, width])}", "0.0, 6.0"),
    ],
)
def test_fields_are_filled_in_as_in_f_strings(text, expected):
    assert filled(text, dict(NUMBERS)) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{lost:.2f}", r"\{lost\}: this notebook has no lost \(braces of a formula are doubled"),
        ("$A_{k+1}$", "has no k "),
        (r"$\frac{1}{n}$", "has no n "),
        ("{levels['A9']}", r"\{levels\['A9'\]\}: KeyError"),
        ("{run.loss}", r"\{run.loss\}: AttributeError"),
        ("{levels:.2f}", r"\{levels\} can't be written"),
        ("{loss:.2f", "a field can't be read"),
        ("{}", "a field can't be read"),
        ('"""', "three double quotes"),
        ("{None}", "the run gave no number"),
        ("{float('nan'):.2f}", "the run gave no number"),
        ("{np.inf}", "the run gave no number"),
        ("{torch.tensor(float('nan'))}", "the run gave no number"),
        ("{f'{np.nan:.1f}, 0.2'}", "is nan, 0.2: the run gave no number"),
    ],
)
def test_a_text_with_a_hole_is_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        filled(text, NUMBERS | {"np": np, "torch": torch})


def test_a_text_stands_where_its_condition_holds():
    assert chosen("share > 0.9", "{share:.0%} are right.", dict(NUMBERS)) == "92% are right."
    assert chosen("", "{share:.0%} are right.", dict(NUMBERS)) == "92% are right."


def test_where_a_condition_fails_the_page_says_which_and_the_numbers():
    text = chosen("width > 8 and loss < share", "{nowhere}", dict(NUMBERS))
    assert text == (
        "> **Not so in this run.** What the book says here rests on `width > 8 and loss < share`; "
        "here `width` is 6, `loss` is 0.0315, `share` is 0.921."
    )
    text = chosen("width > 8 and all(x < 1 for x in [width])", "", dict(NUMBERS))
    assert text.endswith("here `width` is 6."), "x is bound inside"
    assert chosen("levels is None", "", dict(NUMBERS)).endswith(
        "`levels is None`; here it doesn't hold."
    )


def test_another_text_may_stand_there():
    text = "Wide.\n%%else\nNarrow: {width}."
    assert chosen("width > 8", text, dict(NUMBERS)) == "Narrow: 6."
    assert chosen("width > 5", text, dict(NUMBERS)) == "Wide."
    assert chosen("width > 8", "Wide.\n%%else", dict(NUMBERS)) == ""


@pytest.mark.parametrize(
    ("condition", "text", "complaint"),
    [
        ("", "Wide.\n%%else\nNarrow.", "%%else"),
        ("width", "a\n%%else\nb\n%%else\nc", "%%else"),
        ("width >", "Wide.", "can't be read"),
        ("length > 8", "Wide.", "has no length"),
    ],
)
def test_conditions_of_another_form_are_refused(condition, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        chosen(condition, text, dict(NUMBERS))


def test_an_expression_is_worked_out():
    assert value_of("levels['A5']", dict(NUMBERS)) == 0.6931


WRITTEN = {
    0.01584: "0.0158",
    2000: "2,000",
    -0.5: "−0.5",
    0: "0",
    123456: "123,000",
    2.4e-6: "2.4 × 10⁻⁶",
    1e-5: "10⁻⁵",
    -3e7: "−3 × 10⁷",
}


@pytest.mark.parametrize("value", WRITTEN)
def test_numbers_are_written_as_people_do(value):
    assert written(value) == WRITTEN[value]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("{loss - 1:.2f}", "−0.97"),
        ("{0.00000271:.1e}", "2.7 × 10⁻⁶"),
        ("{1e12:.0e}", "10¹²"),
        ("{-1e-5:.0e}", "−10⁻⁵"),
        ("{'-1e-5'}", "-1e-5"),
    ],
)
def test_fields_have_minus_signs_and_powers_of_ten(field, expected):
    assert filled(field, dict(NUMBERS)) == expected


def test_values_over_models_are_a_median_and_a_range():
    assert over_models([0.9, 1.0, 0.97]) == "97.0% (90.0% to 100%)"
    assert over_models([1.0, 1.0], ".0%") == "100%"
    assert filled("{over_models([1, 3, 2], '.0f')}", {}) == "2 (1 to 3)"
    assert filled("{x:.0%} {-x:+.2f} {x:.1e}", {"x": -1e-4}) == "0% 0.00 −10⁻⁴"
    assert filled("{written(2.44e-6)} nats", {}) == "2.44 × 10⁻⁶ nats"

"""Prompts in tokens, answers graded against the model run plainly, and pairs checked one by one."""

import itertools
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from addlib.llm.grading import Grades, accuracy_by_size, grade, share, top_tokens, written
from addlib.llm.load import load_llm
from addlib.llm.pairs import CORRUPTIONS, Probability, Rank, fits, of_problems, prompt_pairs
from addlib.llm.prompts import (
    ADD,
    COPY,
    MULTIPLY,
    OPERATIONS,
    Form,
    digit_tokens,
    encode,
    few_shot,
    problems,
    wrong_answers,
)
from addlib.llm.random_model import CHARACTERS, RANDOM, random_tokenizer
from addlib.patching.sweep import LogitDifference, Patcher
from tiny_llm import other_tokenizer

FORM = few_shot()


def ids(text):
    return [CHARACTERS.index(character) for character in text]


@cache
def random_llm():
    """A bridge around a random model, and its tokenizer."""
    return load_llm(RANDOM, device="cpu")


class Calculator:
    """Stands in for a model: continues ``…a*b=`` rightly, but for chosen problems, where a digit
    goes wrong.
    """

    def __init__(self, form, wrong=()):
        self.form, self.wrong = form, dict(wrong)

    def next(self, text):
        question, _, digits = text.rpartition("\n")[2].partition("=")
        problem = tuple(int(operand) for operand in question.split(self.form.operation.sign))
        due = self.wrong.get(problem, self.form.answer(problem)) + "\n"
        return due[len(digits)] if len(digits) < len(due) else "x"

    def __call__(self, tokens, past_key_values=None, use_cache=True, logits_to_keep=1):
        logits = torch.zeros(*tokens.shape, len(CHARACTERS))
        for row, line in enumerate(tokens.tolist()):
            text = self.form.prefix + "".join(CHARACTERS[token] for token in line)
            for position in range(tokens.shape[1]):
                seen = text[: len(text) - tokens.shape[1] + position + 1]
                if "=" in seen.rpartition("\n")[2]:
                    logits[row, position, CHARACTERS.index(self.next(seen))] = 3.0
        return SimpleNamespace(logits=logits[:, -logits_to_keep:], past_key_values=None)

    def parameters(self):
        yield torch.zeros(1)


def calculator(form=FORM, wrong=()):
    model = Calculator(form, wrong)
    bridge = SimpleNamespace(original_model=model, parameters=model.parameters)
    return SimpleNamespace(bridge=bridge, tokenizer=random_tokenizer(), device=torch.device("cpu"))


# Prompts


def test_a_prompt_is_examples_question_and_the_first_digits():
    form = Form(MULTIPLY, ((6, 7), (13, 4)))
    assert form.prompt((21, 8)) == "6*7=42\n13*4=52\n21*8="
    assert form.prompt((21, 8), 2) == "6*7=42\n13*4=52\n21*8=16"
    assert Form(ADD, ((6, 7),)).prompt((21, 8), 1) == "6+7=13\n21+8=2"
    assert Form(COPY, ((6, 7),)).prompt((21, 8), 2) == "6|7=6\n21|8=21"
    assert Form(template="{a} x {b} =").prompt((2, 3)) == "2 x 3 ="


def test_examples_are_those_of_a_seed_for_every_operation():
    forms = [few_shot(operation, count=6, seed=3) for operation in OPERATIONS.values()]
    assert len({form.shots for form in forms}) == 1
    shots = forms[0].shots
    assert [(len(str(a)), len(str(b))) for a, b in shots] == [(1, 1), (2, 1)] * 3
    assert len(set(shots)) == 6 and few_shot(count=6, seed=4).shots != shots
    assert few_shot(count=0).prompt((2, 3)) == "2*3="
    assert len(few_shot(count=80, sizes=((1, 1),)).shots) == 80  # more than there are
    with pytest.raises(ValueError, match="count = -1"):
        few_shot(count=-1)


@pytest.mark.parametrize(("size", "total"), [((1, 1), 64), ((2, 1), 720), ((1, 2), 720)])
def test_problems_are_all_of_a_size_without_0_and_1(size, total):
    every = problems(size)
    assert len(every) == len(set(every)) == total
    for digits, operands in zip(size, zip(*every, strict=True), strict=True):
        assert all(len(str(operand)) == digits and operand > 1 for operand in operands)
    some = problems(size, 20, seed=1, without=every[:40])
    assert len(some) == 20 and not set(some) & set(every[:40])
    assert problems(size, 20, seed=1) != problems(size, 20, seed=2)
    assert len(problems(size, 10_000)) == total


def test_problems_that_are_too_many_to_list_need_a_count():
    assert len(problems((5, 5), 100)) == 100
    for size, count in (((5, 5), None), ((0, 1), 3), ((1, 1), 0)):
        with pytest.raises(ValueError):
            problems(size, count)


def test_wrong_answers_are_the_named_slips():
    assert wrong_answers(120) == {
        "+1": "121",
        "-1": "119",
        "+10": "130",
        "-10": "110",
        "double": "240",
        "half": "60",
        "reversed": "021",
        "sorted": "012",
        "rotated left": "201",
        "rotated right": "012",
        "every digit +1": "231",
        "every digit -1": "019",
    }
    assert wrong_answers(7) == {
        "+1": "8",
        "-1": "6",
        "+10": "17",
        "double": "14",
        "half": "3",
        "every digit +1": "8",
        "every digit -1": "6",
    }


# Tokens


def test_prompts_become_ids_with_nothing_put_before_them():
    assert encode(random_tokenizer(), ["12*3=36", "45*6=27"]).tolist() == [
        ids("12*3=36"),
        ids("45*6=27"),
    ]
    begins = other_tokenizer()
    assert begins("1*2=").input_ids[0] == CHARACTERS.index("<s>")
    assert encode(begins, ["1*2="]).tolist() == [ids("1*2=")]
    assert digit_tokens(begins).tolist() == list(range(10))


def test_a_digit_that_is_not_one_token_is_refused():
    merges = other_tokenizer(r"\d{1,3}|[^\n\d]")
    for call in (
        lambda: digit_tokens(merges),
        lambda: encode(merges, ["1*2=2"]),
        lambda: grade_with(merges),
    ):
        with pytest.raises(
            ValueError, match="4 tokens of the ten digits 0123456789: each digit must be one token"
        ):
            call()
    sly = other_tokenizer(r"36|[^\n]")  # the ten digits in a row do not show it
    assert len(digit_tokens(sly)) == 10
    assert encode(sly, ["12*2=24"]).shape == (1, 7)
    with pytest.raises(
        ValueError, match=r"'12\*3=36' becomes .*'36'.*: each digit must be one token"
    ):
        encode(sly, ["12*2=24", "12*3=36"])


def grade_with(other):
    return grade(SimpleNamespace(bridge=None, tokenizer=other), FORM, [(2, 3)])


def test_prompts_of_different_lengths_are_refused():
    with pytest.raises(
        ValueError, match=r"prompts of 4 and 5 tokens in one batch \('2\*3=', '12\*3='\)"
    ):
        encode(random_tokenizer(), ["12*3=", "2*3="])
    with pytest.raises(ValueError, match="no prompts"):
        encode(random_tokenizer(), [])


# Grades


def plain_grades(form, problem):
    """One problem through the whole model at once: each digit right, its probability, and whether
    no digit follows.
    """
    tokens = ids(form.prompt(problem, 99))
    count = len(form.answer(problem))
    with torch.no_grad():
        logits = random_llm().bridge.original_model(torch.tensor([tokens])).logits[0]
    due = torch.tensor(tokens[-count:])
    before = logits[len(tokens) - count - 1 : -1]
    odds = before.softmax(-1)[torch.arange(count), due]
    return (before.argmax(-1) == due).tolist(), odds, int(logits[-1].argmax()) > 9


@pytest.mark.parametrize(
    "form", [FORM, few_shot(ADD, 0), few_shot(COPY, 2)], ids=["multiply", "zero-shot", "copy"]
)
def test_grades_are_those_of_whole_forwards_one_by_one(form):
    asked = [(12, 3), (4, 5), (7, 8), (99, 9), (2, 2), (31, 8)]  # of several lengths, in no order
    for rows in (1, 2, 64):
        grades = grade(random_llm(), form, asked, rows=rows)
        for row, problem in enumerate(asked):
            right, odds, stops = plain_grades(form, problem)
            count = int(grades.length[row])
            assert count == len(form.answer(problem))
            assert grades.right[row].tolist() == right + [False] * (grades.right.shape[1] - count)
            assert torch.allclose(grades.probability[row, :count], odds, atol=1e-6)
            assert grades.stops[row] == stops


def test_what_is_written_is_the_likeliest_token_each_time():
    asked = [(12, 3), (4, 5), (45, 7)]
    for text, problem in zip(
        written(random_llm(), FORM, asked, tokens=5, rows=1), asked, strict=True
    ):
        tokens = ids(FORM.prompt(problem))
        for _ in range(5):
            with torch.no_grad():
                tokens.append(
                    int(
                        random_llm()
                        .bridge.original_model(torch.tensor([tokens]))
                        .logits[0, -1]
                        .argmax()
                    )
                )
        assert text == random_tokenizer().decode(tokens[-5:]).partition("\n")[0]


def test_a_calculator_gets_full_marks_and_its_slips_are_found():
    asked = problems((2, 1), 40, seed=5, without=FORM.shots)
    wrong = {
        asked[0]: "0",
        asked[1]: FORM.answer(asked[1]) + "7",
        asked[2]: FORM.answer(asked[2])[:-1] + "x",
    }
    llm = calculator(wrong=wrong)
    grades = grade(llm, FORM, asked, rows=7)
    assert grades.whole.tolist() == [False, True, False] + [True] * 37
    assert grades.free.tolist() == [False] * 3 + [True] * 37
    assert grades.solved == asked[3:]
    assert grades.right[2].tolist()[: int(grades.length[2]) - 1] == [True] * (
        int(grades.length[2]) - 1
    )
    alone = [
        text == FORM.answer(problem) for text, problem in zip(wrote(llm, asked), asked, strict=True)
    ]
    assert alone == grades.free.tolist()


def wrote(llm, asked):
    """What the calculator writes: it keeps no cache, so it is asked token by token."""
    texts = []
    for problem in asked:
        text = llm.bridge.original_model.form.prompt(problem)
        while not text.endswith(("\n", "x")):
            text += llm.bridge.original_model.next(text)
        texts.append(text.rpartition("=")[2].rstrip("\n"))
    return texts


def test_written_alone_right_is_forced_right_and_a_stop():
    """On a random model that is right by luck on sums of one digit."""
    form = few_shot(COPY, 0)
    asked = problems((1, 1))
    grades = grade(random_llm(), form, asked)
    texts = written(random_llm(), form, asked, tokens=3)
    digits = ["".join(itertools.takewhile(str.isdigit, text)) for text in texts]
    assert grades.free.tolist() == [
        said == form.answer(problem) for said, problem in zip(digits, asked, strict=True)
    ]


def test_places_are_counted_from_either_end():
    right = torch.tensor([[True, False, True], [True, True, False], [False, True, False]])
    grades = Grades(
        FORM,
        [(12, 9), (3, 4), (5, 6)],
        torch.tensor([3, 2, 2]),
        right,
        right.float(),
        torch.tensor([True, False, True]),
    )
    assert grades.by_place()[["place", "n", "share"]].to_numpy().tolist() == [
        [0, 3, 2 / 3],
        [1, 3, 2 / 3],
        [2, 1, 1],
    ]
    last = grades.by_place(from_last=True)
    assert last[["place", "n", "share"]].to_numpy().tolist() == [
        [0, 3, 1],
        [1, 3, 1 / 3],
        [2, 1, 1],
    ]
    assert grades.whole.tolist() == [False, True, False] and grades.free.tolist() == [False] * 3
    known = share(torch.arange(100) < 92)
    assert known["share"] == 0.92 and (known["low"], known["high"]) == pytest.approx(
        (0.850, 0.959), abs=1e-3
    )


def test_accuracy_by_size_counts_problems_of_each_size():
    form = few_shot(ADD)
    asked = problems((2, 1), 30, seed=2, without=form.shots)
    wrong = {asked[0]: form.answer(asked[0]) + "1", asked[1]: "9" * len(form.answer(asked[1]))}
    table, grades = accuracy_by_size(calculator(form, wrong), form, [(1, 1), (2, 1)], 30, seed=2)
    rows = table.set_index(["a_digits", "b_digits"])
    assert rows.loc[(1, 1), ["n", "digits", "whole", "free"]].tolist() == [30, 1, 1, 1]
    assert rows.loc[(2, 1), "whole"] == 29 / 30 and rows.loc[(2, 1), "free"] == 28 / 30
    assert rows.loc[(2, 1), "free_low"] < 28 / 30 < rows.loc[(2, 1), "free_high"]
    assert grades[(2, 1)].problems == asked
    with pytest.raises(ValueError, match="0 problems with rows = 64"):
        grade(random_llm(), FORM, [])


def test_the_likeliest_tokens_are_listed_position_by_position():
    table = top_tokens(random_llm(), "12*3=", 4)
    assert len(table) == 20
    with torch.no_grad():
        expected = (
            random_llm()
            .bridge.original_model(torch.tensor([ids("12*3=")]))
            .logits[0, 2]
            .softmax(-1)
        )
    third = table[table["position"] == 2]
    assert third["after"].tolist() == ["*"] * 4
    assert third["probability"].tolist() == pytest.approx(
        expected.topk(4).values.tolist(), rel=1e-4
    )
    assert third["token"].tolist() == [
        random_tokenizer().decode([int(token)]) for token in expected.topk(4).indices
    ]


# Pairs


@pytest.mark.parametrize("operation", [MULTIPLY, ADD])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("k", [0, 1, 2])
def test_every_pair_is_what_it_must_be(operation, corruption, k):
    form = few_shot(operation)
    # A changed factor of one digit moves a product by ten or more: with k = 2 it is the one of two
    # digits.
    size = (2, 2) if operation is ADD else (1, 2) if corruption == "other" else (2, 1)
    solved = problems(size, 2000, seed=1, without=form.shots)
    pairs = prompt_pairs(form, random_tokenizer(), solved, k, corruption, seed=1)
    assert len(pairs) == 64
    used = list(zip(pairs.problems, pairs.corrupted_problems, strict=True))
    assert len(set(pairs.problems)) == 64
    assert not {(b, a) for a, b in used} & set(used)
    for row, (one, other) in enumerate(used):
        assert one in solved and other in solved
        changed = [
            [x != y for x, y in zip(str(p), str(q), strict=True)]
            for p, q in zip(one, other, strict=True)
        ]
        flips = [sum(digits) for digits in changed]
        assert {"digit": flips == [1, 0], "other": flips == [0, 1], "resample": min(flips) > 0}[
            corruption
        ]
        answer, instead = (str(operation.answer(*problem)) for problem in (one, other))
        assert len(answer) == len(instead) and answer[:k] == instead[:k] and answer[k] != instead[k]
        assert pairs.clean[row].tolist() == ids(
            f"{form.prefix}{one[0]}{operation.sign}{one[1]}={answer[:k]}"
        )
        assert pairs.corrupted[row].tolist() == ids(
            f"{form.prefix}{other[0]}{operation.sign}{other[1]}={answer[:k]}"
        )
        assert (pairs.right[row], pairs.wrong[row]) == (int(answer[k]), int(instead[k]))
        differs = int((pairs.clean[row] != pairs.corrupted[row]).sum())
        assert differs == 1 if corruption != "resample" else differs >= 2
    assert len(form.prefix) <= pairs.shared < pairs.clean.shape[1]
    assert torch.equal(
        pairs.clean[:, : pairs.shared], pairs.clean[:1, : pairs.shared].expand(64, -1)
    )


def test_pairs_share_no_problem_while_there_are_enough():
    pairs = prompt_pairs(FORM, random_tokenizer(), problems((2, 1)), 1)
    assert len({*pairs.problems, *pairs.corrupted_problems}) == 128
    every = prompt_pairs(FORM, random_tokenizer(), problems((2, 1)), 1, count=None)
    assert len(every) > 300 and len(set(every.problems)) == len(every)
    made = set(zip(every.problems, every.corrupted_problems, strict=True))
    assert not {(other, one) for one, other in made} & made


def test_controls_ask_other_things_of_the_same_operands():
    others = [few_shot(ADD), few_shot(COPY)]
    pairs = prompt_pairs(FORM, random_tokenizer(), problems((2, 1)), 0, also=others)
    for form in others:
        control = of_problems(
            form, random_tokenizer(), pairs.problems, pairs.corrupted_problems, 0, "digit"
        )
        assert control.clean.shape[0] == 64
        for row, (one, other) in enumerate(
            zip(pairs.problems, pairs.corrupted_problems, strict=True)
        ):
            assert (
                control.right[row]
                == int(form.answer(one)[0])
                != int(form.answer(other)[0])
                == control.wrong[row]
            )
    with pytest.raises(ValueError, match="only 0 pairs"):
        prompt_pairs(
            FORM, random_tokenizer(), problems((2, 1)), 2, also=others
        )  # copies have two digits


def test_pairs_are_those_of_a_seed():
    solved = problems((2, 1), 300)
    assert (
        prompt_pairs(FORM, random_tokenizer(), solved, 1).problems
        == prompt_pairs(FORM, random_tokenizer(), solved, 1).problems
    )
    assert (
        prompt_pairs(FORM, random_tokenizer(), solved, 1).problems
        != prompt_pairs(FORM, random_tokenizer(), solved, 1, seed=1).problems
    )


def test_pairs_that_cannot_be_had_are_refused():
    few = problems((2, 1), 30)
    with pytest.raises(
        ValueError,
        match=r"only \d+ pairs with k = 2 .* among 30 problems .* 64 wanted: ask it more",
    ):
        prompt_pairs(FORM, random_tokenizer(), few, 2)
    assert 0 < len(prompt_pairs(FORM, random_tokenizer(), few, 0, count=None)) < 64
    with pytest.raises(ValueError, match="no pair with k = 0"):
        prompt_pairs(FORM, random_tokenizer(), [(12, 3)], 0, count=None)
    with pytest.raises(ValueError, match=r"k = 0, sizes \[\(1, 1\), \(2, 1\)\]"):
        prompt_pairs(FORM, random_tokenizer(), [(12, 3), (2, 3)], 0)
    with pytest.raises(
        ValueError, match="corruption = 'swap': must be one of digit, other, resample"
    ):
        prompt_pairs(FORM, random_tokenizer(), few, 0, "swap")
    for clean, corrupted in [
        ((12, 3), (12, 4)),
        ((12, 3), (13, 3)),
        ((12, 3), (45, 3)),
        ((12, 3), (112, 3)),
    ]:
        with pytest.raises(ValueError, match="are no pair with k = 0"):
            of_problems(
                FORM, random_tokenizer(), [clean], [corrupted], 0, "digit"
            )  # other operand, same first digit, …
    assert fits(FORM, (12, 3), (22, 3), 0, "digit")
    assert not fits(FORM, (12, 3), (22, 4), 0, "digit")  # both operands
    assert fits(FORM, (13, 4), (17, 4), 0, "digit") and not fits(
        FORM, (13, 4), (17, 4), 1, "digit"
    )  # 52 and 68


def test_a_pair_with_answers_of_other_lengths_is_none():
    assert not fits(FORM, (12, 8), (13, 8), 0, "digit")  # 96 and 104
    with pytest.raises(ValueError, match="prompts of"):
        encode(random_tokenizer(), [FORM.prompt((12, 8), 3), FORM.prompt((13, 8), 3)])


# Metrics


def test_metrics_are_probability_and_rank_of_the_right_digit():
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 5.0]])
    token = torch.tensor([2, 3])
    expected = [
        torch.tensor([1.0, 3, 2, 3]).softmax(0)[2].item(),
        torch.tensor([0.0, 0, 0, 5]).softmax(0)[3].item(),
    ]
    assert Probability(token)(logits).tolist() == pytest.approx(expected)
    assert Rank(token)(logits).tolist() == [2, 0]
    assert Rank(torch.tensor([1, 0]))(logits).tolist() == [0, 1]  # ties are not preferred


def test_a_sweep_takes_all_metrics_at_once():
    pairs = prompt_pairs(FORM, random_tokenizer(), problems((2, 1), 200), 1, count=5)
    assert pairs.difference.tokens.tolist() == torch.stack([pairs.right, pairs.wrong], -1).tolist()
    assert (
        isinstance(pairs.first(2).metrics["difference"], LogitDifference)
        and len(pairs.first(2)) == 2
    )
    result = Patcher(random_llm().bridge, pairs.corrupted, pairs.clean).sweep(
        "resid_pre", pairs.metrics, layers=[0]
    )
    assert result.metric_names == ["difference", "probability", "rank"]
    with torch.no_grad():
        clean = random_llm().bridge(pairs.clean)[:, -1]
        corrupted = random_llm().bridge(pairs.corrupted)[:, -1]
    for row, metric in enumerate(pairs.metrics.values()):
        assert torch.allclose(result.baseline[row], metric(corrupted), atol=1e-4)
        changed = [
            i for i in range(pairs.clean.shape[1]) if (pairs.clean[0, i] != pairs.corrupted[0, i])
        ]
        assert torch.allclose(result.values[row, 0, changed[0], 0], metric(clean)[0], atol=1e-4)

"""Prompts in tokens, answers graded against the model run plainly, and pairs checked one by one."""

from functools import cache, partial
from types import SimpleNamespace

import pytest
import torch

from addlib.llm.grading import Grades, SharedStart, check_able, digit_ranks, grade, share
from addlib.llm.load import CHARACTERS, RANDOM, load_llm, random_tokenizer
from addlib.llm.pairs import CORRUPTIONS, make_a_pair, pair_up, prompt_pairs
from addlib.llm.prompts import (
    ADD,
    COPY,
    MULTIPLY,
    Form,
    Operation,
    digit_tokens,
    encode,
    few_shot,
    problems,
    question_roles,
)
from addlib.patching.sweep import Patcher
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

    @property
    def base_model(self):
        """What it would keep of the examples is the same without an unembedding: nothing."""
        return self

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
    forms = [few_shot(operation, count=6, seed=3) for operation in (MULTIPLY, ADD, COPY)]
    assert len({form.shots for form in forms}) == 1
    shots = forms[0].shots
    assert [(len(str(a)), len(str(b))) for a, b in shots] == [(1, 1), (2, 1)] * 3
    assert len(set(shots)) == 6 and few_shot(count=6, seed=4).shots != shots
    assert few_shot(count=0).prompt((2, 3)) == "2*3="
    assert len(set(few_shot(count=100).shots)) == 100
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
        ValueError, match=r"different lengths in one batch, by tokens: {5: '12\*3=', 4: '2\*3='}"
    ):
        encode(random_tokenizer(), ["12*3=", "2*3="])
    with pytest.raises(ValueError, match="no prompts"):
        encode(random_tokenizer(), [])


# Grades


def written(form, problem):
    """What the random model writes on its own, the likeliest token each time, up to a line's end."""
    tokens = ids(form.prompt(problem))
    digits = ""
    while len(digits) < 8:
        with torch.no_grad():
            logits = random_llm().bridge.original_model(torch.tensor([tokens])).logits[0, -1]
        tokens.append(int(logits.argmax()))
        if tokens[-1] > 9:
            break
        digits += str(tokens[-1])
    return digits


def plain_digits(form, problem):
    """Each digit right, from one problem through the whole model at once."""
    tokens = ids(form.prompt(problem, 99))
    count = len(form.answer(problem))
    with torch.no_grad():
        logits = random_llm().bridge.original_model(torch.tensor([tokens])).logits[0]
    return (logits[-count - 1 : -1].argmax(-1) == torch.tensor(tokens[-count:])).tolist()


@pytest.mark.parametrize(
    "form", [FORM, few_shot(ADD, 0), few_shot(COPY, 2)], ids=["multiply", "zero-shot", "copy"]
)
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_digits_are_graded_as_in_whole_forwards_one_by_one(form, batch_size):
    asked = [(12, 3), (4, 5), (7, 8), (99, 9), (2, 2), (31, 8)]  # of several lengths, in no order
    grades = grade(random_llm(), form, asked, batch_size)
    for row, problem in enumerate(asked):
        count = int(grades.length[row])
        beyond = grades.digit_right.shape[1] - count
        assert count == len(form.answer(problem))
        assert grades.digit_right[row].tolist() == plain_digits(form, problem) + [False] * beyond


@pytest.fixture
def fetched(monkeypatch):
    """Sizes of the tensors that are brought to the host."""
    sizes = []
    to_host = torch.Tensor.cpu

    def cpu(tensor):
        sizes.append(tensor.numel())
        return to_host(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    return sizes


def test_one_token_a_digit_is_fetched_and_not_the_logits_of_the_whole_vocabulary(fetched):
    grades = grade(random_llm(), FORM, [(12, 3), (13, 2), (14, 2)])
    assert grades.length.tolist() == [2, 2, 2]
    assert fetched == [3 * (2 + 1)]
    tokens = encode(random_tokenizer(), [FORM.prompt(problem, 2) for problem in grades.problems])
    logits = SharedStart(random_llm(), FORM)(tokens, 3).cpu()
    log_p = logits.double().log_softmax(-1)  # of the whole vocabulary, on the host
    expected = log_p.argmax(-1)[:, :-1] == tokens[:, -2:]
    assert torch.equal(grades.digit_right, expected)


def test_grading_goes_on_in_smaller_batches_where_memory_is_short(monkeypatch, capsys):
    asked = problems((2, 1), 30, without=FORM.shots)
    whole = grade(random_llm(), FORM, asked, 16)
    run = SharedStart.__call__
    sizes = []

    def small(start, prompts, last=1, hooks=()):
        sizes.append(len(prompts))
        if len(prompts) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(start, prompts, last, hooks)

    monkeypatch.setattr(SharedStart, "__call__", small)
    parts = grade(random_llm(), FORM, asked, 16)
    assert sizes[:3] == [16, 8, 4]
    assert torch.equal(parts.digit_right, whole.digit_right)
    assert torch.equal(parts.right, whole.right)
    assert "Out of memory with 16 questions at once; going on with 8." in capsys.readouterr().out


def test_examples_or_a_prompt_that_do_not_fit_are_one_sentence(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(random_llm().bridge.original_model.base_model, "forward", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"^there is no memory for a single question"):
        SharedStart(random_llm(), FORM)
    with pytest.raises(torch.OutOfMemoryError, match=r"^there is no memory for a single prompt"):
        digit_ranks(random_llm(), few_shot(count=0), (12, 3))


def test_an_answer_is_right_where_the_model_writes_it_on_its_own():
    """After two copies the random model often writes a 2, which therefore is the answer here."""
    shots = few_shot(COPY, 2).shots
    form = Form(Operation("|", lambda a, b: a if (a, b) in shots else 2), shots)
    asked = problems((2, 1), 60)
    expected = [written(form, problem) == "2" for problem in asked]
    assert 10 < sum(expected) < 50
    assert grade(random_llm(), form, asked).right.tolist() == expected


def test_a_calculator_gets_full_marks_and_its_slips_are_found():
    asked = problems((2, 1), 40, seed=5, without=FORM.shots)
    wrong = {
        asked[0]: "0",
        asked[1]: FORM.answer(asked[1]) + "7",
        asked[2]: FORM.answer(asked[2])[:-1] + "x",
    }
    llm = calculator(wrong=wrong)
    grades = grade(llm, FORM, asked, batch_size=7)
    assert grades.right.tolist() == [False] * 3 + [True] * 37
    assert grades.solved == asked[3:]
    given = int(grades.length[2]) - 1
    assert grades.digit_right[2, :given].all() and not grades.digit_right[2, given]
    assert grades.digit_right[1].sum() == grades.length[1]  # and then a digit too many
    alone = [
        text == FORM.answer(problem) for text, problem in zip(wrote(llm, asked), asked, strict=True)
    ]
    assert alone == grades.right.tolist()


def test_examples_that_a_question_turns_into_other_tokens_are_refused():
    start = SharedStart(random_llm(), FORM)
    prompts = encode(random_tokenizer(), [FORM.prompt((12, 3))])
    assert start.length == len(FORM.prefix)
    prompts[0, 2] += 1
    with pytest.raises(ValueError, match="end them with a newline"):
        start(prompts)


def test_a_shared_start_s_last_position_is_that_of_whole_prompts():
    bridge = random_llm().bridge
    start = SharedStart(random_llm(), FORM)
    prompts = encode(random_tokenizer(), [FORM.prompt((a, 7)) for a in range(12, 19)])
    name = "blocks.1.hook_resid_pre"
    with torch.no_grad():
        logits, run = bridge.run_with_cache(prompts, names_filter=[name])
    assert torch.allclose(start.at_end(prompts, batch_size=3), logits[:, -1], atol=1e-5)
    held = start.activations(prompts, [name])
    assert torch.allclose(held[0], run[name][:, -1], atol=1e-5)


def test_hooks_act_on_what_follows_the_examples():
    start = SharedStart(random_llm(), FORM)
    prompts = encode(random_tokenizer(), [FORM.prompt((a, 7)) for a in range(12, 19)])
    name = "blocks.1.hook_resid_pre"

    def silence(position, value, hook):
        value = value.clone()
        value[:, position] = 0
        return value

    after_start = start.at_end(prompts, hooks=[(name, partial(silence, 1))])
    hooks = [(name, partial(silence, start.length + 1))]
    with torch.no_grad(), random_llm().bridge.hooks(fwd_hooks=hooks):
        whole = random_llm().bridge(prompts)[:, -1]
    assert torch.allclose(after_start, whole, atol=1e-5)
    plain = start.at_end(prompts)
    assert (after_start - plain).abs().max() > 1e-3
    assert torch.allclose(plain, start.at_end(prompts, batch_size=2), atol=1e-5)  # hooks are gone


def wrote(llm, asked):
    """What the calculator writes: it keeps no cache, so it is asked token by token."""
    texts = []
    for problem in asked:
        text = llm.bridge.original_model.form.prompt(problem)
        while not text.endswith(("\n", "x")):
            text += llm.bridge.original_model.next(text)
        texts.append(text.rpartition("=")[2].rstrip("\n"))
    return texts


def test_places_are_the_first_the_middle_and_the_last():
    right = torch.tensor([[True, False, True], [True, True, False], [False, False, False]])
    length = torch.tensor([3, 2, 1])
    places = Grades([(12, 9), (3, 4), (2, 2)], length, right, torch.zeros(3)).by_place()
    counts = {name: (place["n"], place["share"]) for name, place in places.items()}
    assert counts == {
        "first digit": (3, 2 / 3),
        "middle digits": (1, 0),
        "last digit": (3, 2 / 3),
    }
    grades = Grades([(12, 9), (3, 4), (2, 2)], length, right, torch.zeros(3))
    assert grades.lead_of_ends() == pytest.approx(2 / 3)
    assert grades.lead_of_ends(torch.tensor([2, 0, 0])) == pytest.approx(2 / 3)
    assert grades.some(torch.tensor([2, 0])).problems == [(2, 2), (12, 9)]
    known = share(torch.arange(100) < 92)
    assert known["share"] == 0.92 and (known["low"], known["high"]) == pytest.approx(
        (0.850, 0.959), abs=1e-3
    )


def test_grades_of_several_sizes_are_joined_place_by_place():
    parts = [
        grade(random_llm(), FORM, problems(size, 5, without=FORM.shots))
        for size in ((1, 1), (2, 2), (2, 1))
    ]
    whole = Grades.joined(parts)
    assert whole.problems == [problem for part in parts for problem in part.problems]
    assert whole.right.tolist() == [right for part in parts for right in part.right.tolist()]
    for place, joined in whole.by_place().items():
        each = [part.by_place()[place] for part in parts]
        counted = [(of["n"], of["share"] * of["n"]) for of in each if of["n"]]
        assert joined["n"] == sum(n for n, _ in counted)
        assert joined["share"] * joined["n"] == pytest.approx(sum(hits for _, hits in counted))


def test_nothing_asked_is_refused():
    with pytest.raises(ValueError, match="0 problems with batch_size = 64"):
        grade(random_llm(), FORM, [])


def test_each_digit_of_an_answer_has_its_rank_and_the_likeliest_tokens():
    table = digit_ranks(random_llm(), FORM, (48, 9), 4)
    with torch.no_grad():
        tokens = torch.tensor([ids(FORM.prompt((48, 9), 2))])
        logits = random_llm().bridge.original_model(tokens).logits[0, -3:]
    expected = logits.softmax(-1)
    assert table["due"].tolist() == list("432")
    assert table["digit"].tolist() == [1, 2, 3]
    for row, due, of in zip(table.itertuples(), "432", expected, strict=True):
        own = of[ids(due)[0]]
        assert row.probability == pytest.approx(own.item(), rel=1e-4)
        assert row.rank == 1 + int((of > own).sum())
        first = random_tokenizer().decode([int(of.argmax())])
        assert row.likeliest.startswith(f"{first!r} {of.max():.0%}, ")
        assert row.likeliest.count("%") == 4


@pytest.mark.parametrize("operation", [MULTIPLY, ADD])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("k", [0, 1, 2])
def test_every_pair_is_what_it_must_be(operation, corruption, k):
    form = few_shot(operation)
    # A changed factor of one digit moves a product by ten or more: with k = 2 it is the one of two
    # digits.
    size = (2, 2) if operation is ADD else (1, 2) if corruption == "other" else (2, 1)
    solved = problems(size, 2000, seed=1, without=form.shots)
    pairs = prompt_pairs(form, random_tokenizer(), solved, k, corruption, seed=1).first(64)
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
    start = len(form.prefix)
    assert torch.equal(pairs.clean[:, :start], pairs.clean[:1, :start].expand(64, -1))


def test_pairs_share_no_problem_while_there_are_enough():
    every = prompt_pairs(FORM, random_tokenizer(), problems((2, 1)), 1)
    pairs = every.first(64)
    assert len({*pairs.problems, *pairs.corrupted_problems}) == 128
    assert len(every) > 300 and len(set(every.problems)) == len(every)
    made = set(zip(every.problems, every.corrupted_problems, strict=True))
    assert not {(other, one) for one, other in made} & made


def test_controls_ask_other_things_of_the_same_operands():
    others = [few_shot(ADD), few_shot(COPY)]
    pairs = prompt_pairs(FORM, random_tokenizer(), problems((2, 1)), 0, also=others).first(64)
    for form in others:
        control = pair_up(
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
    with pytest.raises(ValueError, match="no pair with k = 2"):
        # copies have two digits
        prompt_pairs(FORM, random_tokenizer(), problems((2, 1)), 2, also=others)


def test_a_mask_chooses_whole_pairs():
    pairs = prompt_pairs(FORM, random_tokenizer(), problems((2, 1)), 1).first(6)
    chosen = pairs.where(torch.tensor([False, True, False, True, True, False]))
    assert len(chosen) == 3
    for row, of in enumerate((1, 3, 4)):
        assert chosen.problems[row] == pairs.problems[of]
        assert chosen.corrupted_problems[row] == pairs.corrupted_problems[of]
        for name in ("clean", "corrupted", "right", "wrong"):
            assert torch.equal(getattr(chosen, name)[row], getattr(pairs, name)[of])
    assert torch.equal(chosen.first(2).right, chosen.right[:2])


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
    with pytest.raises(ValueError, match="no pair with k = 0"):
        prompt_pairs(FORM, random_tokenizer(), [(12, 3)], 0)
    with pytest.raises(ValueError, match=r"k = 0, sizes \[\(1, 1\), \(2, 1\)\]"):
        prompt_pairs(FORM, random_tokenizer(), [(12, 3), (2, 3)], 0)
    with pytest.raises(ValueError, match=r"corruption = 'swap': .* one of digit, other, resample"):
        prompt_pairs(FORM, random_tokenizer(), few, 0, "swap")
    for clean, corrupted in [
        ((12, 3), (12, 4)),
        ((12, 3), (13, 3)),
        ((12, 3), (45, 3)),
        ((12, 3), (112, 3)),
    ]:
        with pytest.raises(ValueError, match="are no pair with k = 0"):
            # other operand, same first digit, …
            pair_up(FORM, random_tokenizer(), [clean], [corrupted], 0, "digit")
    assert make_a_pair(FORM, (12, 3), (22, 3), 0, "digit")
    assert not make_a_pair(FORM, (12, 3), (22, 4), 0, "digit")  # both operands
    # 52 and 68
    assert make_a_pair(FORM, (13, 4), (17, 4), 0, "digit") and not make_a_pair(
        FORM, (13, 4), (17, 4), 1, "digit"
    )


def test_a_pair_with_answers_of_other_lengths_is_none():
    assert not make_a_pair(FORM, (12, 8), (13, 8), 0, "digit")  # 96 and 104
    with pytest.raises(ValueError, match="prompts of"):
        encode(random_tokenizer(), [FORM.prompt((12, 8), 3), FORM.prompt((13, 8), 3)])


# Metrics


def test_a_sweep_takes_all_metrics_at_once():
    pairs = prompt_pairs(FORM, random_tokenizer(), problems((2, 1), 200), 1).first(5)
    assert pairs.difference.tokens.tolist() == torch.stack([pairs.right, pairs.wrong], -1).tolist()
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


def test_a_model_that_cannot_do_the_task_is_refused_with_what_was_found():
    right = torch.tensor([True, False, False, False])
    grades = Grades([(12, 9)] * 4, torch.full((4,), 3), torch.zeros(4, 3).bool(), right)
    able = SimpleNamespace(source=SimpleNamespace(name="Tiny"), is_random=False)
    with pytest.raises(ValueError, match=r"Tiny gets 1 of 4 problems .* 12 and 9 right \(25%\)"):
        check_able(able, grades, 0.3)
    check_able(able, grades, 0.25)
    check_able(SimpleNamespace(is_random=True), grades, 0.3)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), "units × b ="),
        ((2, 1), "tens units × b ="),
        ((3, 2), "hundreds tens units × b b ="),
    ],
)
def test_each_position_of_a_question_has_a_role(size, expected):
    form = few_shot(count=2)
    roles = question_roles(random_tokenizer(), form, size)
    assert roles == expected.split()
    (problem,) = problems(size, 1)
    whole = encode(random_tokenizer(), [form.prompt(problem)])
    start = encode(random_tokenizer(), [form.prefix])
    assert whole.shape[1] == start.shape[1] + len(roles)
    with pytest.raises(ValueError, match="1 to 3 digits"):
        question_roles(random_tokenizer(), form, (4, 1))

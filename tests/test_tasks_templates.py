"""Templates: the form that was declared, words that fit, exemplars that give nothing away, answers found again."""

from __future__ import annotations

import gzip
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from flanscale.errors import DataError
from flanscale.evaluation.benchmarks.held_out import questions
from flanscale.schema import MixtureConfig
from flanscale.tasks.catalog import read_catalog
from flanscale.tasks.procedural import Procedural
from flanscale.tasks.task import Example, Task
from flanscale.tasks.templates import (
    Form,
    Wordings,
    draw_form,
    evaluation_form,
    extract_answer,
    load_wordings,
    procedural_words,
    render,
)
from flanscale.tasks.templates.flan import flan_key
from flanscale.tasks.templates.own import own_texts
from flanscale.tasks.templates.shots import choose_shots
from flanscale.tasks.templates.text import Text

OWN = load_wordings("own", None)
DIRECT, COT = Form(cot=False, shots=0), Form(cot=True, shots=0)
FORMS = [
    Form(cot, shots, instruction=instruction, inverted=inverted, options=options)
    for cot, shots, instruction, inverted, options in product(
        (False, True), (0, 3), (True, False), (False, True), (True, False)
    )
]


def choices(number: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(63) for _ in range(number)]


def example(number: int, **changes: Any) -> Example:
    plain = Example(f"id{number}", f"query <{number}>", (f"reply {number}",), f"because of {number}")
    return replace(plain, **changes)


def task(examples: int = 8, **changes: Any) -> Task:
    plain = Task("t", "jsonl", "", "Say it.", [example(number) for number in range(examples)])
    return replace(plain, **changes)


# --- the procedural collection -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "direct"),
    list(
        enumerate(
            [
                "reverse then sort : 3 1 2 =",
                "apply reverse then sort to 3 1 2 :",
                "given 3 1 2 do reverse then sort .",
                "question : 3 1 2 , reverse then sort ? answer :",
            ]
        )
    ),
)
def test_the_digits_keep_their_wordings_and_their_order(choice: int, direct: str) -> None:
    shown = Example("0", "3 1 2", ("1 2 3",), "reverse 2 1 3 ; sort 1 2 3 ;")
    digits = Task("reverse-sort", "procedural", "", "reverse then sort", [shown], dataset="digits", style="procedural")
    for turn in (choice, choice + 4, choice + (1 << 62)):
        prompt = render(digits, 0, DIRECT, turn, OWN)
        assert (prompt.input, prompt.target) == (direct, "1 2 3")
        prompt = render(digits, 0, COT, turn, OWN)
        assert prompt.input == direct + " step by step"
        assert prompt.target == "reverse 2 1 3 ; sort 1 2 3 ; the answer is 1 2 3"


@pytest.mark.parametrize("domain", ["digits", "letters"])
def test_every_procedural_word_is_in_the_closed_vocabulary(domain: str) -> None:
    collection = Procedural(50, domain=domain)
    words = procedural_words(domain)
    assert len(words) == len(set(words))
    used: set[str] = set()
    for name, form, choice in product((*collection.groups["second"], *collection.held_out), FORMS, range(4)):
        prompt = render(collection.task(name), choice, form, choice, OWN)
        used |= {*prompt.input.split(), *prompt.target.split()}
    assert used == set(words)


def test_the_domains_share_no_wording() -> None:
    assert set(procedural_words("digits")) & set(procedural_words("letters")) == {";"}


# --- forms ---------------------------------------------------------------------------------------------------------


def forms(config: MixtureConfig, *, cot: bool = True, shown: Example | None = None, number: int = 4000) -> list[Form]:
    shown = shown or example(0, options=("yes", "no"))
    return [draw_form(task(), shown, config, cot=cot, choice=choice) for choice in choices(number)]


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(
    ("knob", "has"),
    [
        ("cot_fraction", lambda form: form.cot),
        ("few_shot_fraction", lambda form: form.shots > 0),
        ("bare_fraction", lambda form: not form.instruction),
        ("inverted_fraction", lambda form: form.inverted),
        ("options_fraction", lambda form: form.options),
    ],
)
def test_each_form_appears_in_its_share(knob: str, has: Any, fraction: float) -> None:
    drawn = forms(MixtureConfig(count=1, exemplars=5, **{knob: fraction}))
    assert sum(map(has, drawn)) / len(drawn) == pytest.approx(fraction, abs=0.03 if 0 < fraction < 1 else 0)


def test_the_parts_of_a_form_are_drawn_independently() -> None:
    half = MixtureConfig(1, exemplars=2, few_shot_fraction=0.5, inverted_fraction=0.5)
    drawn = Counter(
        (form.cot, form.shots > 0, form.inverted, form.options, choice % 2)
        for form, choice in zip(forms(half, number=16_000), choices(16_000), strict=True)
    )
    assert len(drawn) == 32
    assert all(400 < number < 600 for number in drawn.values())


def test_training_shows_one_to_exemplars_shots_evenly_and_evaluation_always_all() -> None:
    shots = Counter(form.shots for form in forms(MixtureConfig(count=1, exemplars=4)))
    assert sorted(shots) == [1, 2, 3, 4]
    assert all(900 < number < 1100 for number in shots.values())
    assert (evaluation_form(True, 4).shots, evaluation_form(True, 4).cot, evaluation_form(False, 0).cot) == (
        4,
        True,
        False,
    )


def test_a_rationale_is_shown_only_where_there_is_one_and_only_in_cot_cells() -> None:
    every = MixtureConfig(count=1, cot_fraction=1.0)
    assert not any(form.cot for form in forms(every, cot=False))
    assert not any(form.cot for form in forms(every, shown=example(0, rationale=None)))


def test_without_exemplars_nothing_is_bare_and_without_a_hidden_input_nothing_is_inverted() -> None:
    assert all(form.instruction for form in forms(MixtureConfig(count=1, exemplars=0, bare_fraction=1.0)))
    inverted = MixtureConfig(count=1, inverted_fraction=1.0)
    for shown in (example(0, input=""), example(0, references=("",)), example(0, references=("To query <0>: no.",))):
        assert not any(form.inverted for form in forms(inverted, shown=shown, number=50))


def test_a_text_follows_from_its_choice_alone() -> None:
    shown = task(style="question")
    for form, choice in zip(FORMS, choices(len(FORMS)), strict=True):
        random.seed(choice)
        first = render(shown, 3, form, choice, OWN)
        random.seed(0)
        assert render(shown, 3, form, choice, load_wordings("own", None)) == first


def test_delimiters_and_option_styles_differ_between_examples_of_one_task() -> None:
    shown = replace(task(), examples=[example(n, options=("yes", "no")) for n in range(8)])
    texts = {render(shown, 0, Form(False, 2), choice, OWN).input for choice in choices(200)}
    assert len(texts) > 190


# --- own wordings --------------------------------------------------------------------------------------------------


def test_there_are_enough_wordings_and_none_twice() -> None:
    texts = own_texts()
    for style in ("instruction", "question", "classification", "generation"):
        asks = texts.styles[style]
        assert len({ask.full.source for ask in asks}) == len({ask.bare.source for ask in asks}) == len(asks) >= 6
    nine = ["aqua", "creak", "ecqa", "esnli", "gsm8k", "qasc", "qed", "sensemaking", "strategyqa"]
    assert sorted(texts.pairs) == nine
    assert all(len(set(pairs)) == 10 for pairs in texts.pairs.values())
    assert all(any(pair) for pairs in texts.pairs.values() for pair in pairs)


def test_evaluation_takes_the_wordings_in_turn() -> None:
    number = len(own_texts().styles["instruction"])
    shown = replace(task(), examples=[example(0)] * 2 * number)
    inputs = [render(shown, index, evaluation_form(False, 0), index, OWN).input for index in range(2 * number)]
    assert len(set(inputs[:number])) == number
    assert inputs[:number] == inputs[number:]


@pytest.mark.parametrize("style", ["instruction", "question", "classification", "generation"])
def test_every_wording_shows_instruction_and_input_once_and_no_hole(style: str) -> None:
    for choice, form in product(choices(30), FORMS):
        shown = replace(task(style=style), examples=[example(0, options=("{brace}", "100 %"))])
        text = render(shown, 0, replace(form, shots=0), choice, OWN).input
        assert text.count("Say it.") == form.instruction
        assert text.count("query <0>") == (not form.inverted)
        assert "{input}" not in text
        assert "{instruction}" not in text


def test_a_task_without_instruction_and_an_example_without_input_read_well() -> None:
    for choice in range(20):
        assert "query <0>" in render(task(instruction=""), 0, DIRECT, choice, OWN).input
        lone = replace(task(), examples=[example(0, input="")])
        assert render(lone, 0, DIRECT, choice, OWN).input.count("Say it.") == 1


def test_rendered_prompts_are_shown_as_they_are() -> None:
    shown = replace(task(style="rendered"), examples=[example(n, options=("left", "right")) for n in range(5)])
    for choice in choices(20):
        assert render(shown, 2, DIRECT, choice, OWN).input == "query <2>"
        few = render(shown, 2, Form(False, 2), choice, OWN).input
        assert few.startswith("query <")
        assert few.count("reply") == 2
        assert "left" not in few
        assert "Say it." not in few


def test_an_unknown_style_is_one_clear_line() -> None:
    with pytest.raises(DataError, match="task t: style 'sonnet' has no wordings; styles: rendered, instruction"):
        render(task(style="sonnet"), 0, DIRECT, 0, OWN)


@pytest.mark.parametrize("dataset", sorted(own_texts().pairs))
def test_a_chain_of_thought_set_is_asked_in_its_ten_pairs(dataset: str) -> None:
    shown = task(collection="cot", dataset=dataset, style="question")
    pairs = own_texts().pairs[dataset]
    for choice, (before, after) in enumerate(pairs):
        prompt = render(shown, 0, COT, choice, OWN)
        assert prompt.input == "\n".join(part for part in (before, "query <0>", after) if part)
        assert prompt.target.startswith("because of 0. ")
        assert "Say it." not in prompt.input  # the pair says what to do


def test_a_question_that_shows_no_options_is_not_asked_to_pick_one() -> None:
    shown = replace(
        task(collection="cot", dataset="aqua", style="question"), examples=[example(0, options=("12", "13"))]
    )
    for choice in choices(100):
        text = render(shown, 0, Form(cot=True, shots=0, options=False), choice, OWN).input.lower()
        assert not any(word in text for word in ("option", "choose", "pick"))


def test_in_every_set_of_delimiters_the_end_of_an_example_is_no_end_of_a_question() -> None:
    delimiters = own_texts().delimiters
    assert len({(marks.question, marks.answer) for marks in delimiters}) >= 6
    assert all(marks.separator not in marks.between for marks in delimiters)
    assert own_texts().plain_delimiters


def test_braces_and_percent_signs_are_ordinary_characters() -> None:
    text = Text.of("{a b} 100 % %s {} {x}{{x}}")
    assert text.fill({"x": "{y} %d"}) == "{a b} 100 % %s {} {y} %d{{y} %d}"


# --- options -------------------------------------------------------------------------------------------------------


def test_options_are_all_listed_in_order_or_not_at_all() -> None:
    options = tuple(f"option-{number:02}." for number in range(40))
    for number, choice in product((2, 5, 26, 27, 40), choices(40)):
        shown = replace(task(), examples=[example(0, options=options[:number])])
        listed = render(shown, 0, DIRECT, choice, OWN).input
        places = [listed.index(option) for option in options[:number]]
        assert places == sorted(places)
        assert "option-00" not in render(shown, 0, Form(False, 0, options=False), choice, OWN).input


def test_options_that_stand_in_the_question_are_not_listed_again() -> None:
    shown = replace(task(), examples=[example(0, input="Left or right?", options=("Left", "right"))])
    assert all(
        "Left or right?" in (text := render(shown, 0, DIRECT, c, OWN).input) and text.count("Left") == 1
        for c in range(20)
    )


# --- exemplars -----------------------------------------------------------------------------------------------------


def test_no_exemplar_is_the_query_or_holds_it_and_all_differ() -> None:
    rng = random.Random(1)
    words = [f"item {number} " * (1 + number % 2) for number in range(15)]  # some stand in others
    pool = [
        example(n, input=rng.choice(words), rationale=rng.choice(words), references=(rng.choice(words),))
        for n in range(60)
    ]
    for choice in choices(500):
        cut = choice % 50
        shown = task(exemplars=tuple(pool[:cut]) if choice % 3 else ())
        shown = replace(shown, examples=pool[cut:])
        query = shown.examples[choice % len(shown.examples)]
        shots = choose_shots(shown, query, Form(cot=True, shots=4), choice)
        assert len({shot.input for shot in shots}) == len(shots) <= 4
        asked = query.input.strip()
        assert not any(
            f" {asked} " in f" {text} " for shot in shots for text in (shot.input, shot.target, shot.rationale or "")
        )
        assert {shot.id for shot in shots} <= {shot.id for shot in shown.exemplars or shown.examples}


def test_an_exemplar_that_holds_the_querys_text_is_not_shown() -> None:
    telling = (example(1, input="see query <0> here"), example(2, rationale="as in query <0>"), example(3))
    shown = task(exemplars=telling)
    for choice in choices(30):
        text = render(shown, 0, Form(True, 3), choice, OWN).input
        assert text.count("query <0>") == 1
        assert "query <3>" in text


def test_inputs_that_differ_in_case_or_white_space_alone_are_one_question() -> None:
    asked = (
        "Where is the red cup?",
        "Where is  the red cup?",
        "where is the red CUP?",
        "Where is\tthe red cup? ",
        "And?",
    )
    shown = task(exemplars=())
    shown = replace(shown, examples=[example(n, input=text) for n, text in enumerate(asked)])
    for choice in choices(20):
        for query in shown.examples[:4]:
            shots = choose_shots(shown, query, Form(cot=False, shots=4), choice)
            assert [shot.input for shot in shots] == ["And?"]
        assert len(choose_shots(shown, shown.examples[4], Form(cot=False, shots=4), choice)) == 1


def test_a_number_inside_another_gives_nothing_away() -> None:
    shown = replace(task(exemplars=()), examples=[example(n, input=str(n), references=("odd",)) for n in range(60)])
    for choice in choices(20):
        assert len(choose_shots(shown, shown.examples[5], Form(cot=False, shots=5), choice)) == 5
    telling = replace(shown, exemplars=(example(100, input="15"), example(101, input="is 5, then?")))
    assert [shot.input for shot in choose_shots(telling, shown.examples[5], Form(cot=False, shots=5), 1)] == ["15"]


def test_exemplars_of_the_task_come_before_training_examples_and_fewer_are_shown_where_few_are_left() -> None:
    own = (example(100), example(101))
    for choice in choices(50):
        text = render(task(exemplars=own), 0, Form(False, 5), choice, OWN).input
        assert {number for number in range(102) if f"query <{number}>" in text} == {0, 100, 101}
        text = render(task(examples=3), 0, Form(False, 5), choice, OWN).input
        assert text.count("query <") == 3


def test_training_examples_serve_in_many_draws_and_orders() -> None:
    seen = Counter()
    for choice in choices(2000):
        text = render(task(), 0, Form(False, 2, instruction=False), choice, OWN).input
        shots = sorted((text.index(f"<{n}>"), n) for n in range(1, 8) if f"<{n}>" in text)
        assert len(shots) == 2
        seen[tuple(n for _, n in shots)] += 1
    assert len(seen) == 7 * 6
    assert max(seen.values()) < 80


def test_evaluation_shows_the_first_exemplars_in_their_order() -> None:
    shown = task(exemplars=(example(0), example(11), example(12), example(13)))
    for index in range(8):
        text = render(shown, index, evaluation_form(False, 2), index, OWN).input
        expected = [11, 12] if index == 0 else [0, 11]
        places = [text.index(f"query <{number}>") for number in (*expected, index)]
        assert places == sorted(places)
        assert text.count("query <") == 3


@pytest.mark.parametrize("cot", [False, True])
@pytest.mark.parametrize("style", ["instruction", "question", "rendered", "procedural"])
def test_a_prompt_without_its_first_shots_is_the_prompt_of_the_others(style: str, cot: bool) -> None:
    own = tuple(example(number) for number in (11, 12, 13))
    for choice in range(40):
        whole = render(task(style=style, dataset="", exemplars=own), 0, evaluation_form(cot, 3), choice, OWN)
        fewer = render(task(style=style, dataset="", exemplars=own[1:]), 0, evaluation_form(cot, 2), choice, OWN)
        assert len(whole.shots) == 3
        assert replace(whole, shots=whole.shots[1:]) == fewer
        assert [f"query <{number}>" in whole.shots[0] for number in (11, 12, 0)] == [True, False, False]
        assert "query <0>" in whole.question
        assert "query" not in whole.preamble


def test_flans_prompts_come_in_the_same_parts(flan_file: Path) -> None:
    wordings = load_wordings("flan", flan_file)
    shown = task(collection="niv2", exemplars=(example(8), example(9)))
    prompt = render(shown, 0, evaluation_form(False, 2), 0, wordings)
    assert (prompt.preamble, prompt.question) == ("Say it.\n\n", "query <0>\n")
    assert prompt.shots == ("query <8>\nreply 8\n\n", "query <9>\nreply 9\n\n")


def test_held_out_questions_are_never_exemplars_of_each_other() -> None:
    borrowed = questions(task(), OWN, shots=3)
    assert len(borrowed) == 5
    for own, item in enumerate(borrowed, start=3):
        asked = {number for number in range(8) if f"query <{number}>" in item.prompt.text()}
        assert asked == {0, 1, 2, own}
    given = questions(task(exemplars=(example(100), example(101))), OWN, shots=3)
    assert len(given) == 8
    for own, item in enumerate(given):
        assert [f"query <{number}>" in item.prompt.text() for number in (100, 101, own)] == [True] * 3
        assert item.prompt.text().count("query <") == 3


def test_a_query_with_a_rationale_is_shown_exemplars_with_rationales() -> None:
    shown = task(exemplars=(example(1, rationale=None), example(2)))
    for choice in choices(20):
        text = render(shown, 0, Form(True, 2), choice, OWN).input
        assert "query <2>" in text
        assert "query <1>" not in text


def test_bare_prompts_have_no_instruction_unless_no_exemplar_is_left() -> None:
    for choice in choices(20):
        assert "Say it." not in render(task(), 0, Form(False, 2, instruction=False), choice, OWN).input
        assert "Say it." in render(task(examples=1), 0, Form(False, 2, instruction=False), choice, OWN).input


# --- from the answer back, and answers found again -----------------------------------------------------------------


def test_inverted_examples_ask_for_the_question() -> None:
    for choice, cot, shots in product(choices(30), (False, True), (0, 2)):
        prompt = render(task(), 0, Form(cot, shots, inverted=True), choice, OWN)
        assert prompt.target == "query <0>"
        assert prompt.target not in prompt.input
        assert "reply 0" in prompt.input
        assert ("because of 0" in prompt.input) == cot
        assert prompt.input.count("query <") == shots


@pytest.mark.parametrize("answer", ["42", "Sentence B", "(A)", "22 1/2 %", "it cannot be told", "No!"])
def test_the_answer_of_every_own_rationale_is_found_again(answer: str) -> None:
    said = example(0, references=(answer,), rationale="The answer is not obvious: so 1 + 1 is 2")
    for style, collection, shots in product(("question", "procedural"), ("cot", "jsonl"), (0, 2)):
        domains = ("digits", "letters") if style == "procedural" else ("gsm8k",)
        for dataset, choice in product(domains, choices(20)):
            shown = replace(task(style=style, collection=collection, dataset=dataset), examples=[said, example(1)])
            assert extract_answer(render(shown, 0, Form(True, shots), choice, OWN).target, cot=True) == answer


@pytest.mark.parametrize(
    ("text", "cot", "answer"),
    [
        ("4 2", False, "4 2"),
        ("reverse 2 4 ; the answer is 2 4", True, "2 4"),
        ("the answer is 1 , no , the answer is 2.", True, "2"),
        ("So 6 are left. The answer is 6.\n\nQ: next", True, "6"),
        ("I think so. The final answer: yes.", True, "yes"),
        ("reverse 2 4 ; sort", True, ""),
        ("The mark was not reached", False, "The mark was not reached"),
        ("My answer: no", False, "My answer: no"),
    ],
)
def test_the_answer_is_what_follows_the_last_mark(text: str, cot: bool, answer: str) -> None:
    assert extract_answer(text, cot=cot) == answer


def test_nothing_is_extracted_from_a_question_that_was_asked_for() -> None:
    text = "If the answer is 6, what is twice that?"
    assert extract_answer(f" {text}\n", cot=True, inverted=True) == text


# --- FLAN's templates ----------------------------------------------------------------------------------------------

FLAN_PYTHON = '''
"""Written for this test in the manner of FLAN's file."""
import copy
import dataclasses
open(__file__ + ".ran", "w").close()

PATTERNS = {
    "pairs": [
        ("One: {first}\\n"
         "Two: {second}\\n{options_}", "{answer}"),
        ("{first} / {second} ({options_})", "{answer}"),
        ("Pick for {first}, {second}: {options_}", "{answer}"),
        ("Decide on {second}", "{answer}"),
        ("{title}: {first} {second}", "{answer}"),
        ("Make up {answer} things.", "{first} and {second}"),
        ("Repeat {first}", "{first}"),
    ],
    "natinst_v2": [("{Definition}\\nNow: {input}\\n", "{output}")],
}
PATTERNS["cousins"] = PATTERNS["pairs"]
PATTERNS_NO_OPTIONS = copy.deepcopy(PATTERNS)

@dataclasses.dataclass
class FewShotPattern:
    inputs: str
    targets: str
    inputs_prefix: str = ""
    targets_prefix: str = ""
    x_y_delimiter: str = "\\n"
    example_separator: str = "\\n\\n"
    final_suffix: str = ""
    input_pattern: str = "{{inputs}}{final_suffix}"
    in_template_mix: bool = True

    @property
    def combined(self):
        return self.inputs + self.targets

FEWSHOT_PATTERNS = {
    "pairs": [FewShotPattern(inputs="{first}+{second}", targets="{answer}", inputs_prefix="P: ", targets_prefix="S: ")],
    "natinst_v2": [
        FewShotPattern(
            input_pattern="{{Definition}}\\n\\n{{inputs}}{final_suffix}", inputs="{input}", targets="{output}"
        )
    ],
}
for name, templates in FEWSHOT_PATTERNS.items():
    raise SystemExit
INLINE_FS_PATTERNS = {
    "natinst_v2": [("{Definition}\\n{ex_input} gives {ex_output}: {ex_explanation}\\n{input}", "{output}")],
}
OTHERS = ["x" for _ in range(26)]
'''


@pytest.fixture
def flan_file(tmp_path: Path) -> Path:
    path = tmp_path / "templates.py"
    path.write_text(FLAN_PYTHON)
    return path


def pairs_task(fields: Mapping[str, str], **changes: Any) -> Task:
    shown = [
        example(
            n, fields={name: f"{value}{n}" for name, value in fields.items()}, options=("yes", "no"), rationale=None
        )
        for n in range(4)
    ]
    return replace(task(collection="muffin", name="pairs", style="classification"), examples=shown, **changes)


def rendered_inputs(shown: Task, form: Form, wordings: Wordings) -> set[str]:
    return {render(shown, 0, form, choice, wordings).input for choice in range(60)}


def test_flans_file_is_read_without_being_run(flan_file: Path) -> None:
    wordings = load_wordings("flan", flan_file)
    assert not Path(f"{flan_file}.ran").exists()
    assert wordings.flan is not None
    assert wordings.flan.alone.keys() == {"pairs", "cousins", "natinst_v2"}
    assert wordings.flan.alone["cousins"] == wordings.flan.alone["pairs"]


def test_both_forms_of_flans_templates_and_their_folder_are_the_same_wordings(flan_file: Path, tmp_path: Path) -> None:
    from flanscale.tasks.templates.flan_source import read_flan

    table = tmp_path / "copy" / "templates.json.gz"
    table.parent.mkdir()
    table.write_bytes(gzip.compress(json.dumps(read_flan(flan_file)).encode()))
    clone = tmp_path / "clone"
    (clone / "flan" / "v2").mkdir(parents=True)
    (clone / "flan" / "v2" / "templates.py").write_text(FLAN_PYTHON)
    prints = {load_wordings("flan", path).fingerprint for path in (flan_file, table, table.parent, clone)}
    assert len(prints) == 1
    assert prints != {OWN.fingerprint}
    (clone / "flan" / "v2" / "templates.py").write_text(FLAN_PYTHON.replace("One:", "First:"))
    assert load_wordings("flan", clone).fingerprint not in prints


def test_a_template_is_used_only_where_the_example_fills_it(flan_file: Path) -> None:
    wordings = load_wordings("flan", flan_file)
    inputs = rendered_inputs(pairs_task({"first": "a", "second": "b", "title": ""}), DIRECT, wordings)
    assert len(inputs) > 10  # option styles differ
    assert all(text.startswith(("One: a0\nTwo: b0\n", "a0 / b0 (", "Pick for a0, b0: ")) for text in inputs)
    without = rendered_inputs(pairs_task({"first": "a", "second": "b"}), Form(False, 0, options=False), wordings)
    assert without == {"One: a0\nTwo: b0", "a0 / b0", "Decide on b0"}
    titled = rendered_inputs(
        pairs_task({"first": "a", "second": "b", "title": "t"}), Form(False, 0, options=False), wordings
    )
    assert titled == without | {"t0: a0 b0"}
    assert not wordings.fallbacks


def test_templates_turned_round_serve_inverted_forms_only_and_slips_none(flan_file: Path) -> None:
    wordings = load_wordings("flan", flan_file)
    shown = pairs_task({"first": "a", "second": "b"})
    assert rendered_inputs(shown, Form(False, 0, inverted=True), wordings) == {"Make up reply 0 things."}
    assert render(shown, 0, Form(False, 0, inverted=True), 0, wordings).target == "a0 and b0"


def test_flans_exemplars_stand_in_flans_marks(flan_file: Path) -> None:
    wordings = load_wordings("flan", flan_file)
    shown = pairs_task({"first": "a", "second": "b"})
    assert render(shown, 0, replace(evaluation_form(False, 2), options=False), 0, wordings).input.endswith(
        "P: a0+b0\nS:"
    )
    text = render(shown, 0, Form(False, 9), 5, wordings).input
    assert sorted(text.split("\n\n")) == ["P: a0+b0\nS:", *(f"P: a{n}+b{n}\nS: reply {n}" for n in (1, 2, 3))]
    niv2 = task(collection="niv2", exemplars=(example(9, fields={"explanation": "it is so"}, rationale=None),))
    assert rendered_inputs(niv2, Form(False, 1), wordings) == {
        "Say it.\n\nquery <9>\nreply 9\n\nquery <0>\n",
        "Say it.\nquery <9> gives reply 9: it is so\nquery <0>",
    }
    assert rendered_inputs(niv2, Form(False, 1, instruction=False), wordings) == {"query <9>\nreply 9\n\nquery <0>\n"}


def test_a_task_without_flan_template_is_told_once_and_counted(
    flan_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wordings = load_wordings("flan", flan_file)
    stranger = task(name="stranger")
    with caplog.at_level(logging.WARNING):
        texts = [render(stranger, index, DIRECT, index, wordings) for index in range(8)]
    assert texts == [render(stranger, index, DIRECT, index, OWN) for index in range(8)]
    assert wordings.fallbacks == {"stranger": 8}
    assert caplog.text.count("task stranger: FLAN has no direct template") == 1
    assert render(task(collection="rendered", style="rendered"), 0, DIRECT, 0, wordings).input == "query <0>"
    assert wordings.fallbacks.keys() == {"stranger"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("PATTERNS = {", "not FLAN's templates: '{' was never closed"),
        ("PATTERNS = {'a': open('x')}", "not FLAN's templates: line 1: expected a list of templates"),
        ("PATTERNS = {'a': [open('x').read()]}", "PATTERNS\\['a'\\] is no list|expected the tables|malformed"),
        ("X = 1", "expected the tables PATTERNS, FEWSHOT_PATTERNS, INLINE_FS_PATTERNS"),
        ("PATTERNS = {'a': [('x', 1)]}\nFEWSHOT_PATTERNS = {}\nINLINE_FS_PATTERNS = {}", r"PATTERNS\['a'\] is no list"),
    ],
)
def test_a_file_that_is_not_flans_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "templates.py").write_text(content)
    with pytest.raises(DataError, match=message) as raised:
        load_wordings("flan", tmp_path / "templates.py")
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_wordings_that_are_not_there_say_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mixture.templates=flan needs .* data\.flan"):
        load_wordings("flan", None)
    with pytest.raises(DataError, match=r"data\.flan=.*holds none of templates\.json\.gz"):
        load_wordings("flan", tmp_path)
    with pytest.raises(DataError, match=r"data\.flan=.*not readable"):
        load_wordings("flan", tmp_path / "templates.py")
    (tmp_path / "templates.json.gz").write_bytes(gzip.compress(b"{}")[:-3])
    with pytest.raises(DataError, match=r"data\.flan=.*not readable"):
        load_wordings("flan", tmp_path)
    with pytest.raises(DataError, match="they are own and flan"):
        load_wordings("mine", None)


# --- real data -----------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_every_task_of_the_paper_has_flan_templates(shared_data: Path) -> None:
    flan = load_wordings("flan", shared_data / "flan").flan
    assert flan is not None
    assert (len(flan.alone), len(flan.shots), len(flan.inline["natinst_v2"])) == (120, 119, 10)
    assert sum(map(len, flan.alone.values())) == 1290
    found = Counter()
    for row in read_catalog():
        shown = Task(row.task, row.collection, row.category, "", (), dataset=row.dataset)
        key = flan_key(shown, example(0), Form(row.collection == "cot", 0))
        found[row.collection] += key in flan.alone and key in flan.shots
    assert found == {"cot": 9, "muffin": 80, "t0sf": 193, "niv2": 1554}


@pytest.mark.data
def test_real_examples_of_every_collection_fill_flans_templates(shared_data: Path) -> None:
    from flanscale.tasks.cot import Cot
    from flanscale.tasks.muffin import Muffin
    from flanscale.tasks.niv2 import Niv2
    from flanscale.tasks.t0sf import T0sf

    wordings = load_wordings("flan", shared_data / "flan")
    collections = [
        Cot(shared_data / "cot", 20),
        Muffin(shared_data / "muffin", 20),
        T0sf(shared_data / "t0", 20),
        Niv2(shared_data / "niv2", "default", 20),
    ]
    for collection in collections:
        names = [name for group in collection.groups.values() for name in group]
        for name in names if len(names) < 20 else names[:: len(names) // 8]:
            shown = collection.task(name)
            for form, choice in zip([form for form in FORMS if not form.inverted], choices(len(FORMS)), strict=False):
                given = replace(form, cot=form.cot and shown.examples[0].rationale is not None)
                prompt = render(shown, choice % len(shown.examples), given, choice, wordings)
                asked = shown.examples[choice % len(shown.examples)]
                assert asked.fields.get("answer", asked.target) in prompt.target, (name, form)
                assert not re.search(r"\{(question|options_|premise|answer|input)\}", prompt.input + prompt.target)
    assert not wordings.fallbacks


@pytest.mark.data
def test_what_flans_rationales_conclude_is_found_again_in_evaluation(shared_data: Path) -> None:
    wordings = load_wordings("flan", shared_data / "flan")
    for dataset, index, shots in product(own_texts().pairs, range(15), (0, 2)):
        shown = replace(
            task(collection="cot", dataset=dataset, exemplars=(example(90), example(91))), examples=[example(0)] * 15
        )
        prompt = render(shown, index, evaluation_form(True, shots), index, wordings)
        assert extract_answer(prompt.target, cot=True) == "reply 0", prompt.target

"""MMLU: prompts as the paper's, letters or texts, and an answer that cannot be read is none rather than an A."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_prompts import CHANGED, prompt_hashes

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.benchmarks import open_benchmark
from flanscale.evaluation.benchmarks.mmlu import SUBJECTS
from flanscale.evaluation.item import Ask, Asked, Item
from flanscale.evaluation.metrics import METRICS
from flanscale.tasks.benchmark_files import mmlu_cot

COT = "mmlu-cot.json"
Row = tuple[str, str, str, str, str, str]


def row(number: int, letter: str = "B") -> Row:
    return (f"How many legs have {number} geese?", "none", str(2 * number), "many", "all of them", letter)


def write(folder: Path, split: str, subject: str, rows: Sequence[Row]) -> Path:
    path = folder / split / f"{subject}_{split}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    return path


def worked(number: int) -> str:
    return (
        f"Q: How many?\n(A) {number} (B) none\nA: Let's think step by step. I count\x0c {number}.\r The answer is (A)."
    )


def small(folder: Path, subjects: Sequence[str] = ("human_aging", "virology"), shots: int = 5) -> Path:
    for subject in subjects:
        write(folder, "dev", subject, [row(number) for number in range(10, 15)])
        write(folder, "val", subject, [row(1), row(2), row(3, "C")])
        write(folder, "test", subject, [row(4)])
    header = "Questions about {}."
    prompts = {name: "\n\n".join([header.format(name), *map(worked, range(shots))]) for name in subjects}
    (folder / COT).write_text(json.dumps(prompts))
    return folder


def asked(folder: Path, line: str) -> Asked:
    return open_benchmark("mmlu", folder).asked(Ask.parse(line))


def first(folder: Path, line: str) -> Item:
    return asked(folder, line).items[0]


def extracted(setting: str, text: str, listed: tuple[str, ...] = ("none", "two.", "many", "all of them")) -> str | None:
    chosen = open_benchmark("mmlu", Path()).setting(Ask("mmlu", setting))
    assert chosen.extract
    return chosen.extract(text, replace(first_of_nothing, listed=listed))


first_of_nothing = Item("val/virology/0", "virology", prompt=None, references=("B",))  # type: ignore[arg-type]


def test_direct_names_the_subject_letters_the_options_and_shows_answers_of_the_dev_split(tmp_path: Path) -> None:
    item = first(small(tmp_path), "mmlu/direct-2shot")

    assert item.prompt.text() == (
        "The following are multiple choice questions (with answers) about human aging.\n\n"
        "Q: How many legs have 10 geese?\n(A) none (B) 20 (C) many (D) all of them\nA: (B)\n\n"
        "Q: How many legs have 11 geese?\n(A) none (B) 22 (C) many (D) all of them\nA: (B)\n\n"
        "Q: How many legs have 1 geese?\n(A) none (B) 2 (C) many (D) all of them\nA:"
    )
    assert (item.key, item.subtask, item.references, item.options) == ("val/human_aging/0", "human_aging", ("B",), ())


def test_letters_are_ranked_behind_the_prompt_of_direct_as_direct_would_write_them(tmp_path: Path) -> None:
    written, ranked = (first(small(tmp_path), f"mmlu/{setting}") for setting in ("direct", "letters"))

    assert ranked.prompt == written.prompt
    assert (ranked.options, ranked.gold) == ((" (A)", " (B)", " (C)", " (D)"), 1)
    assert all(shot.endswith(f"A:{ranked.options[1]}\n\n") for shot in ranked.prompt.shots)


def test_cloze_shows_no_option_and_ranks_their_texts(tmp_path: Path) -> None:
    item = first(small(tmp_path), "mmlu/cloze-1shot")

    assert item.prompt.text() == (
        "The following are questions about human aging.\n"
        "Question: How many legs have 10 geese?\nAnswer: 20\n\n"
        "Question: How many legs have 1 geese?\nAnswer:"
    )
    assert (item.options, item.gold, item.references) == ((" none", " 2", " many", " all of them"), 1, ("2",))


def test_cot_asks_behind_the_prompt_of_the_file_to_the_character(tmp_path: Path) -> None:
    item = first(small(tmp_path), "mmlu/cot")
    published = json.loads((tmp_path / COT).read_text())["human_aging"]

    assert "\x0c" in published
    assert "\r" in published
    assert item.prompt.text() == (
        f"{published}\n\nQ: How many legs have 1 geese?\n(A) none (B) 2 (C) many (D) all of them\n"
        "A: Let's think step by step."
    )


def test_zero_shot_cot_is_the_question_with_the_trigger(tmp_path: Path) -> None:
    item = first(small(tmp_path), "mmlu/zero_shot_cot")

    assert item.prompt.shots == ()
    assert item.prompt.text().endswith("(D) all of them\nA: Let's think step by step.")
    assert item.prompt.question == first(tmp_path, "mmlu/cot").prompt.question


def test_a_fifth_worked_example_is_not_invented_and_its_lack_is_told(tmp_path: Path) -> None:
    found = asked(small(tmp_path, shots=4), "mmlu/cot")

    assert {len(item.prompt.shots) for item in found.items} == {4}
    assert "mmlu-cot.json has 4 worked examples, not 5, of human_aging, virology." in found.notes
    assert asked(tmp_path, "mmlu/cot-4shot").notes == ()
    assert len(first(tmp_path, "mmlu/direct").prompt.shots) == 5


def test_only_cot_needs_the_file_of_worked_examples(tmp_path: Path) -> None:
    (small(tmp_path) / COT).unlink()

    with pytest.raises(DataError, match=r"mmlu-cot\.json: no such file; .*https://github.com/jasonwei20/flan-2"):
        asked(tmp_path, "mmlu/cot")
    for setting in ("direct", "letters", "cloze", "zero_shot_cot"):
        assert asked(tmp_path, f"mmlu/{setting}").items


@pytest.mark.parametrize("setting", ["direct", "letters", "cloze", "cot"])
@pytest.mark.parametrize("shots", range(6))
def test_any_number_of_shots_is_the_first_ones(tmp_path: Path, setting: str, shots: int) -> None:
    every = first(small(tmp_path), f"mmlu/{setting}-5shot").prompt

    assert first(tmp_path, f"mmlu/{setting}-{shots}shot").prompt == replace(every, shots=every.shots[:shots])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("mmlu/direct-6shot", "mmlu/direct-6shot: it can be asked with 0 to 5 worked examples"),
        ("mmlu/zero_shot_cot-1shot", "mmlu/zero_shot_cot-1shot: it can be asked with 0 to 0 worked examples"),
    ],
)
def test_more_shots_than_there_are_is_refused(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        asked(small(tmp_path), line)


def test_without_shots_no_dev_file_is_needed(tmp_path: Path) -> None:
    shutil.rmtree(small(tmp_path) / "dev")

    assert len(asked(tmp_path, "mmlu/cloze").items) == 6
    with pytest.raises(DataError, match="dev: nothing of this benchmark is there"):
        asked(tmp_path, "mmlu/direct")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" (B)", "B"),
        ("(B).", "B"),
        ("B", "B"),
        (" B.", "B"),
        ("B)", "B"),
        ("(B) two", "B"),
        ("(B) and nothing else, for geese have two", "B"),
        ("(D)\n\nQ: How many?\n(A) one", "D"),
        ("(D) Q: How many? (A) one", "D"),
        ("B. two", "B"),
        ("B: two.", "B"),
        ("two", "B"),
        ("two.", "B"),
        ("all of them", "D"),
        ("\n(C)", "C"),
        ("", None),
        (" .", None),
        ("(E)", None),
        ("E", None),
        ("a", None),
        ("(A) or (B)", None),
        ("(A), (B)", None),
        ("A goose has two", None),
        ("A. goose", None),
        ("A. two", None),
        ("two geese", None),
        ("I think (B)", None),
        ("Answer: B", None),
    ],
)
def test_direct_reads_a_letter_or_an_options_whole_text_and_nothing_else(text: str, answer: str | None) -> None:
    assert extracted("direct", text) == answer


def test_a_text_that_two_options_have_chooses_none_of_them() -> None:
    assert extracted("direct", "two", ("one", "two", "two", "four")) is None
    assert extracted("direct", "(C) two", ("one", "two", "two", "four")) == "C"


@pytest.mark.parametrize("setting", ["cot", "zero_shot_cot"])
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" Geese have two legs. The answer is (B).", "B"),
        (" First the answer is (A). No: so the answer is (C).\nMore", "C"),
        (" The answer is: (D)", "D"),
        (" the answer is B.", "B"),
        (" The answer is all of them.", "D"),
        (" The answer is (B) or (C).", None),
        (" The answer is (E).", None),
        (" (A) is wrong, so it must be another", None),
        (" The answer is", None),
        ("(B)", None),
    ],
)
def test_cot_reads_what_follows_the_last_the_answer_is(setting: str, text: str, answer: str | None) -> None:
    assert extracted(setting, text) == answer


def test_an_answer_is_right_if_it_is_the_gold_letter(tmp_path: Path) -> None:
    items = asked(small(tmp_path), "mmlu/direct").items

    assert [METRICS["exact"]("B", item.references) for item in items[:3]] == [100, 100, 0]


def test_blank_lines_and_spaces_around_a_question_and_its_options_go(tmp_path: Path) -> None:
    write(small(tmp_path), "val", "virology", [(" Given:\n \n  x = 1\n\n", " 1 ", "2", "3", "4 ", "A")])
    item = asked(tmp_path, "mmlu/direct-0shot").items[-1]

    assert item.prompt.question == "Q: Given:\n  x = 1\n(A) 1 (B) 2 (C) 3 (D) 4\nA:"
    assert asked(tmp_path, "mmlu/cloze").items[-1].options == (" 1", " 2", " 3", " 4")


def test_equal_options_are_asked_and_can_be_told_in_every_setting(tmp_path: Path) -> None:
    write(small(tmp_path), "val", "virology", [("Which?", "one", "two ", "two", "four", "B")])

    for setting in ("direct", "cot", "letters", "cloze", "zero_shot_cot"):
        texts = [item.listed or item.options for item in asked(tmp_path, f"mmlu/{setting}").items]
        assert [len(set(listed)) for listed in texts] == [4, 4, 4, 3], setting


def test_guessing_scores_a_quarter_and_always_the_commonest_answer_its_share(tmp_path: Path) -> None:
    floors = asked(small(tmp_path), "mmlu/letters").floors

    assert set(floors) == {"human_aging", "virology"}
    assert (floors["virology"].paper, floors["virology"].chance) == (25, 25)
    assert floors["virology"].majority == pytest.approx(200 / 3)
    assert asked(tmp_path, "mmlu/cloze").floors["virology"].majority == pytest.approx(100 / 3)


def test_the_first_setting_is_direct_with_five_shots_on_val(tmp_path: Path) -> None:
    found = asked(small(tmp_path), "mmlu")

    assert found == asked(tmp_path, "mmlu/direct-5shot-val")
    assert [item.key for item in asked(tmp_path, "mmlu/direct-test").items] == ["test/human_aging/0", "test/virology/0"]
    assert first(tmp_path, "mmlu/cloze").prompt.shots == ()


def test_keys_and_order_are_those_of_every_setting_and_of_no_file_system(tmp_path: Path) -> None:
    small(tmp_path / "one", ("virology", "astronomy"))
    small(tmp_path / "two", ("astronomy", "virology"))
    keys = [f"val/{subject}/{place}" for subject in ("astronomy", "virology") for place in range(3)]

    for folder in ("one", "two"):
        for setting in ("direct", "cot", "letters", "cloze", "zero_shot_cot"):
            assert [item.key for item in asked(tmp_path / folder, f"mmlu/{setting}").items] == keys


def test_subjects_that_are_not_here_are_named(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "dev" / "virology_dev.csv").unlink()

    assert asked(tmp_path, "mmlu/cloze").missing == tuple(
        subject for subject in SUBJECTS if subject not in ("human_aging", "virology")
    )
    assert "virology" in asked(tmp_path, "mmlu/direct").missing
    assert {item.subtask for item in asked(tmp_path, "mmlu/direct").items} == {"human_aging"}


def test_fewer_questions_than_were_published_are_told(tmp_path: Path) -> None:
    notes = asked(small(tmp_path, SUBJECTS), "mmlu/cloze").notes

    assert notes == ("The val split here has 171 questions, not the 1,531 that are published.",)


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("val/virology_val.csv", "q,a,b,c,d,A\nq,a,b", r"virology_val\.csv:2: expected question, four options"),
        ("val/virology_val.csv", 'q,a,b,c,d,A\n"cut in ', r"virology_val\.csv:2: expected question, four options"),
        ("val/virology_val.csv", "q,a,b,c, ,A\n", r"virology_val\.csv:1: expected question, four options"),
        ("val/virology_val.csv", "", r"virology_val\.csv: no question in it"),
        (
            "val/virolgy_val.csv",
            "q,a,b,c,d,A\n",
            r"val: virolgy is no subtask of this benchmark; did you mean virology",
        ),
        ("dev/virology_dev.csv", "q,a,b,c,d,A\n", r"virology_dev\.csv: 1 questions, but 5 worked examples"),
        (COT, '{"virology": "Q', r"mmlu-cot\.json:1: not JSON"),
        (COT, '["virology"]', r"mmlu-cot\.json: expected a text by subject"),
        (COT, '{"virology": 1}', r"mmlu-cot\.json: expected a text by subject"),
        (COT, '{"virology": "Questions."}', r"mmlu-cot\.json: virology: expected worked examples"),
        (
            COT,
            json.dumps({"virology": f"Questions.\n\n{worked(1)}\n\n{worked(2)[:-20]}"}),
            r"mmlu-cot\.json: virology: worked example 2 of 2 lacks",
        ),
    ],
)
def test_a_malformed_or_cut_file_is_one_line_that_names_it(tmp_path: Path, path: str, content: str, told: str) -> None:
    (small(tmp_path) / path).write_text(content)
    with pytest.raises(DataError, match=told) as error:
        asked(tmp_path, "mmlu/cot" if path == COT else "mmlu/direct")
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="val: nothing of this benchmark is there"):
        asked(tmp_path, "mmlu")


def test_the_version_stands_for_every_prompt(tmp_path: Path) -> None:
    benchmark = open_benchmark("mmlu", small(tmp_path))

    assert benchmark.version == 1
    assert prompt_hashes(benchmark) == {
        "direct": "321733f375bf1d36",
        "cot": "a7f4b3b24c780565",
        "letters": "1da88b78e263c3d9",
        "cloze": "6238eda32e8281b1",
        "zero_shot_cot": "dc6d8d838543d01e",
    }, CHANGED


@pytest.mark.data
def test_the_version_stands_for_every_prompt_of_the_published_files(shared_data: Path) -> None:
    benchmark = open_benchmark("mmlu", shared_data / "mmlu")

    assert benchmark.version == 1
    assert prompt_hashes(benchmark) == {
        "direct": "d36fcb325cc2ba80",
        "cot": "1e93a6a580d74712",
        "letters": "6a63ff4f30debb83",
        "cloze": "16697c6fd21f5e96",
        "zero_shot_cot": "468bc1bf0980d3bf",
    }, CHANGED


@pytest.mark.data
@pytest.mark.parametrize(("split", "questions", "alike"), [("val", 1_531, 3), ("test", 14_042, 9)])
def test_the_published_splits_are_whole(shared_data: Path, split: str, questions: int, alike: int) -> None:
    found = asked(shared_data / "mmlu", f"mmlu/direct-{split}")

    assert (len(found.items), len(found.floors), found.missing, found.notes) == (questions, 57, (), ())
    assert len({item.key for item in found.items}) == questions
    assert sum(len(set(item.listed)) < 4 for item in found.items) == alike


@pytest.mark.data
def test_three_subjects_have_four_published_worked_examples(shared_data: Path) -> None:
    found = asked(shared_data / "mmlu", "mmlu/cot")
    prompts = json.loads((shared_data / "mmlu" / COT).read_text())

    assert found.notes == (
        "mmlu-cot.json has 4 worked examples, not 5, of college_chemistry, formal_logic, human_aging.",
    )
    for item in found.items:
        assert item.prompt.text() == f"{prompts[item.subtask]}\n\n{item.prompt.question}"


@pytest.mark.data
def test_questions_are_written_as_the_published_worked_examples_write_them(shared_data: Path) -> None:
    """Of 282 of them, 24 say something else or have their options on lines of their own."""
    shown = Counter(
        (item.subtask, shot.removesuffix("\n\n")[: -len("\nA: (B)")])
        for item in asked(shared_data / "mmlu", "mmlu/direct").items
        if item.key.endswith("/0")
        for shot in item.prompt.shots
    )
    published = [(w.subtask, shot.partition("\nA: ")[0]) for w in mmlu_cot(shared_data / "mmlu") for shot in w.shots]

    assert (len(published), sum(question in shown for question in published)) == (282, 258)

"""GSM8K: what is asked, which answer counts, and what is said where the files are not as they should be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.benchmarks import open_benchmark
from flanscale.evaluation.item import Ask, Asked
from flanscale.evaluation.metrics import METRICS

WORKED = "Ann has 2 pens.\nShe buys 3*2 = <<3*2=6>>6 more, so 2+6 = <<2+6=8>>8.\n#### 8"


def write(folder: Path, split: str, *rows: tuple[str, str]) -> None:
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer in rows]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(
        tmp_path, "train", ("How many pens?", WORKED), *((f"What is {n}?", f"It is {n}.\n#### {n}") for n in range(9))
    )
    write(tmp_path, "test", ("Cost?", "1,200*1\n#### 1,200"), ("Debt?", "0-3\n#### -3"), ("Sum?", "1-4\n#### -3"))
    return tmp_path


def asked(folder: Path, line: str) -> Asked:
    return open_benchmark("gsm8k", folder).asked(Ask.parse(line))


def extracted(folder: Path, line: str, text: str) -> str | None:
    ask = Ask.parse(line)
    extract = open_benchmark("gsm8k", folder).setting(ask).extract
    assert extract
    return extract(text, asked(folder, line).items[0])


def fingerprint(folder: Path) -> str:
    """Of every prompt of every setting."""
    whole = hashlib.sha256()
    for setting in open_benchmark("gsm8k", folder).settings:
        for item in asked(folder, f"gsm8k/{setting.name}").items:
            whole.update(f"{setting.name}\0{item.key}\0{item.prompt.text()}\0".encode())
    return whole.hexdigest()[:16]


def test_chains_of_thought_are_shown_by_the_first_problems_of_the_train_split(folder: Path) -> None:
    prompt = asked(folder, "gsm8k").items[0].prompt
    assert len(prompt.shots) == 8
    assert prompt.shots[0] == (
        "Q: How many pens?\nA: Ann has 2 pens.\nShe buys 3*2 = 6 more, so 2+6 = 8.\nThe answer is 8.\n\n"
    )
    assert prompt.shots[1] == "Q: What is 0?\nA: It is 0.\nThe answer is 0.\n\n"
    assert prompt.question == "Q: Cost?\nA:"


def test_direct_shots_show_the_answer_alone(folder: Path) -> None:
    prompt = asked(folder, "gsm8k/direct-1shot").items[0].prompt
    assert prompt.text() == "Q: How many pens?\nA: The answer is 8.\n\nQ: Cost?\nA:"


def test_without_shots_the_words_alone_ask_for_steps(folder: Path) -> None:
    (folder / "train.jsonl").unlink()
    prompt = asked(folder, "gsm8k/zero_shot_cot").items[0].prompt
    assert prompt.text() == "Q: Cost?\nA: Let's think step by step."


def test_items_have_lasting_keys_and_references_in_the_form_of_answers(folder: Path) -> None:
    for setting in ("cot", "direct", "zero_shot_cot"):
        items = asked(folder, f"gsm8k/{setting}").items
        assert [(item.key, item.references) for item in items] == [
            ("test/0", ("1200",)),
            ("test/1", ("-3",)),
            ("test/2", ("-3",)),
        ]


def test_the_last_number_before_the_next_question_is_the_answer(folder: Path) -> None:
    text = " She pays 3*400 = $1,200.\nThe answer is 1,200.\n\nQ: What is 7?\nA: It is 7."
    assert extracted(folder, "gsm8k/cot", text) == extracted(folder, "gsm8k/zero_shot_cot", text) == "1200"
    assert METRICS["exact"]("1200", asked(folder, "gsm8k").items[0].references) == 100.0
    assert extracted(folder, "gsm8k/cot", " I do not know.\n\nQ: What is 7?") is None


def test_a_direct_answer_is_one_line(folder: Path) -> None:
    assert extracted(folder, "gsm8k/direct", "\nThe answer is 1200.\nOr 5.") == "1200"
    assert extracted(folder, "gsm8k/direct", " The answer is 1200. Q: What is 7?") == "1200"


def test_stop_strings_spare_what_extraction_would_leave_out(folder: Path) -> None:
    stops = {setting.name: setting.stop for setting in open_benchmark("gsm8k", folder).settings}
    assert stops == {"cot": ("Q:",), "direct": ("\n", "Q:"), "zero_shot_cot": ("Q:",)}


def test_guessing_scores_nought_and_the_most_frequent_answer_its_share(folder: Path) -> None:
    floor = asked(folder, "gsm8k").floors["gsm8k"]
    assert (floor.paper, floor.chance) == (0.0, 0.0)
    assert floor.majority == pytest.approx(100 * 2 / 3)


def test_a_reader_is_told_of_the_train_split_and_of_a_part_of_the_problems(folder: Path) -> None:
    notes = asked(folder, "gsm8k").notes
    assert "chain-of-thought data of Chung et al. (2022)" in notes[0]
    assert notes[1].endswith("test.jsonl holds 3 problems; the published split has 1,319.")


@pytest.mark.parametrize("answer", ["no mark 5", "#### 5", "steps\n#### five", "steps\n####"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_problem_without_solution_or_number_is_an_error_that_names_it(folder: Path, split: str, answer: str) -> None:
    write(folder, split, *[("Fine?", "steps\n#### 1")] * 7, ("Bad?", answer))
    with pytest.raises(
        DataError, match=rf"{split}\.jsonl: problem 8: expected a question, a solution, #### and a number"
    ):
        asked(folder, "gsm8k")


def test_too_few_problems_for_the_shots_and_an_empty_folder_are_errors(folder: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: 10 problems, but its first 11 are the shots of gsm8k/direct"):
        asked(folder, "gsm8k/direct-11shot")
    (folder / "test.jsonl").unlink()
    with pytest.raises(DataError, match=r"test\.jsonl: no problem of GSM8K"):
        asked(folder, "gsm8k/zero_shot_cot")


def test_a_line_that_was_cut_is_named(folder: Path) -> None:
    path = folder / "test.jsonl"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(DataError, match=r"test\.jsonl:3: not JSON"):
        asked(folder, "gsm8k")


def test_the_train_split_is_not_asked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no split 'train'"):
        asked(folder, "gsm8k/cot-train")


def test_a_changed_prompt_has_a_version_of_its_own(folder: Path) -> None:
    told = (open_benchmark("gsm8k", folder).version, fingerprint(folder))
    assert told == (1, "9ed7d82c725e1c61"), (
        "a changed prompt raises the benchmark's version: scores are compared within one"
    )


@pytest.mark.data
def test_the_published_problems_make_the_prompts_of_this_version(shared_data: Path) -> None:
    folder = shared_data / "gsm8k"
    told = (open_benchmark("gsm8k", folder).version, fingerprint(folder))
    assert told == (1, "2ec7099442a905c3"), (
        "a changed prompt raises the benchmark's version: scores are compared within one"
    )


@pytest.mark.data
def test_every_published_solution_ends_in_its_reference(shared_data: Path) -> None:
    folder = shared_data / "gsm8k"
    items = asked(folder, "gsm8k/zero_shot_cot").items
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    extract = open_benchmark("gsm8k", folder).settings[0].extract
    assert extract
    assert len(items) == len(rows) == 1319
    assert [extract(row["answer"], item) for row, item in zip(rows, items, strict=True)] == [
        item.references[0] for item in items
    ]
    assert len(asked(folder, "gsm8k").notes) == 1

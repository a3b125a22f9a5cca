"""FLAN's chain-of-thought files: rationales and options come apart, stand-ins say so, oddities have a line number."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest

from flanscale.errors import DataError
from flanscale.tasks.catalog import COUNTS, catalogued
from flanscale.tasks.cot import Cot
from flanscale.tasks.reading import content_fingerprint
from flanscale.tasks.task import Example, Skips


def folder_with(tmp_path: Path, text: str, name: str = "gsm8k_train.tsv") -> Path:
    (tmp_path / name).write_bytes(text.encode())
    return tmp_path


def only(folder: Path, task: str) -> Example:
    (example,) = Cot(folder, 10).task(task).examples
    return example


def test_backslash_n_is_a_line_break_and_nothing_else_is_unescaped(tmp_path: Path) -> None:
    example = only(folder_with(tmp_path, "Two\\nlines?\t7\ta \\times b\\nso 7\n"), "cot_gsm8k")

    assert example.input == "Two\nlines?"
    assert (example.target, example.rationale) == ("7", "a \\times b\nso 7")
    assert example.fields == {"question": "Two\nlines?", "answer": "7", "chain_of_thought": "a \\times b\nso 7"}


@pytest.mark.parametrize(
    ("question", "answer", "shown", "target", "options"),
    [
        ("Who?\\nOptions:\\n- A Cat\\n- dog", "dog", "Who?", "dog", ("A Cat", "dog")),
        ("Who?\\nOptions:\\n(A) cat\\n(B) dog", "(B)", "Who?", "dog", ("cat", "dog")),
        ("Who?\\nOptions:\\n- (A) cat\\n- (B) dog", "(A)", "Who?", "cat", ("cat", "dog")),
        (
            'Which?\\nOptions:\\n- Sentence A: "x."\\n- Sentence B: "y."\\n',
            "Sentence B",
            'Which?\nSentence A: "x."\nSentence B: "y."',
            "Sentence B",
            ("Sentence A", "Sentence B"),
        ),
        ("Who?\\nOptions:\\n(A) cat\\n(B) cat", "(B)", "Who?\nOptions:\n(A) cat\n(B) cat", "(B)", ()),
        ("Are there options?", "yes", "Are there options?", "yes", ()),
    ],
)
def test_a_list_of_options_moves_out_of_the_question(
    tmp_path: Path, question: str, answer: str, shown: str, target: str, options: tuple[str, ...]
) -> None:
    example = only(folder_with(tmp_path, f"{question}\t{answer}\twhy\n"), "cot_gsm8k")

    assert (example.input, example.target, example.options) == (shown, target, options)
    assert example.fields["answer"] == answer


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("question\tanswer", "2 tab-separated columns"),
        ("a\tb\tc\td", "4 tab-separated columns"),
        ("question\t\twhy", "no output"),
        ("\tanswer\twhy", "no input"),
        ("question\tanswer\t ", "no chain of thought"),
        (f"{'x' * 1_000_001}\tanswer\twhy", "more than 1,000,000 characters"),
    ],
)
def test_a_bad_line_is_named_or_left_out_and_counted(tmp_path: Path, line: str, why: str) -> None:
    folder = folder_with(tmp_path, f"q\ta\tw\n{line}\nq\ta\tw\n")
    skips = Skips(allowed=True)

    assert [example.id for example in Cot(folder, 10, skips).task("cot_gsm8k").examples] == ["1", "3"]
    assert skips.total == 1
    with pytest.raises(DataError, match=rf"gsm8k_train\.tsv:2: .*{why}"):
        Cot(folder, 10).task("cot_gsm8k")


def test_an_empty_file_has_no_examples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gsm8k_train\.tsv: no examples"):
        Cot(folder_with(tmp_path, ""), 10).task("cot_gsm8k")


def test_absent_files_are_missing_tasks_with_what_to_do(tmp_path: Path) -> None:
    cot = Cot(folder_with(tmp_path, "q\ta\tw\n"), 10)

    assert cot.groups == {"cot": ["cot_gsm8k"]}
    assert cot.held_out == []
    assert set(cot.missing) == set(catalogued("cot")) - {"cot_gsm8k"}
    assert "`flanscale tasks fetch cot --to " in cot.missing["stream_qed"]
    with pytest.raises(DataError, match=r"task stream_qed: no qed_train\.tsv"):
        cot.task("stream_qed")


@pytest.mark.parametrize("name", ["../gsm8k", "gsm8k_train", "cot_gsm8k/../cot_gsm8k"])
def test_a_name_outside_the_catalogue_is_no_task(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"no task {name!r} in cot"):
        Cot(folder_with(tmp_path, "q\ta\tw\n"), 10).fingerprint(name)


def test_a_stand_in_says_so_until_the_real_file_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "not_flan_format").mkdir()
    stand_in = tmp_path / "not_flan_format" / "esnli_dev_explanations.csv.gz"
    stand_in.write_bytes(
        gzip.compress(b"gold_label,Premise,Hypothesis,Expl_1,Expl_2,Expl_3\nneutral,a dog,a big dog,size unknown,x,y\n")
    )

    example = only(tmp_path, "stream_esnli")
    before = Cot(tmp_path, 10).fingerprint("stream_esnli")

    assert "stands in for FLAN's esnli_train.tsv" in caplog.text
    assert (example.target, example.rationale) == ("it cannot be told", "size unknown")
    assert example.target in example.options
    assert example.fields["premise"] == "a dog"
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert only(folder_with(tmp_path, "q\tyes\tw\n", "esnli_train.tsv"), "stream_esnli").input == "q"
    assert not caplog.records
    assert before not in (Cot(tmp_path, 10).fingerprint("stream_esnli"), content_fingerprint([stand_in]))


def test_the_limit_takes_the_first_examples(tmp_path: Path) -> None:
    examples = Cot(folder_with(tmp_path, "q1\ta\tw\nq2\ta\tw\nbroken\n"), 2).task("cot_gsm8k").examples

    assert [example.input for example in examples] == ["q1", "q2"]


@pytest.mark.data
def test_the_real_files_are_nine_tasks_without_a_bad_line(shared_data: Path) -> None:
    cot = Cot(shared_data / "cot", 10**6)
    tasks = {name: cot.task(name) for name in cot.groups["cot"]}

    assert len(tasks) == COUNTS["cot"]
    assert not cot.missing
    sizes = {task.dataset: len(task.examples) for task in tasks.values()}
    assert sizes == {
        "gsm8k": 7473,
        "strategyqa": 2061,
        "aqua": 2728,
        "creak": 6915,
        "ecqa": 7112,
        "esnli": 9842,
        "qasc": 1084,
        "qed": 1021,  # of 1,355: the others have no explanation
        "sensemaking": 6070,
    }
    for task in tasks.values():
        assert all(example.rationale for example in task.examples)
        assert all(not example.options or example.target in example.options for example in task.examples)
        assert len({example.id for example in task.examples}) == len(task.examples)
    for dataset in ("aqua", "ecqa", "qasc", "sensemaking", "esnli"):
        (task,) = (task for task in tasks.values() if task.dataset == dataset)
        listed = sum(bool(example.options) for example in task.examples)
        assert listed >= len(task.examples) - 6  # six questions of aqua have five times the same option
        assert not any("Options:" in example.input for example in task.examples if example.options)

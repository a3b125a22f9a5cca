"""What another program's model answered is read by the same rules, whichever way a line says what was asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_evaluation_asking import RANKED, digits

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.item import Asked, Benchmark, Floor, Item, Prompt, Setting
from flanscale.evaluation.outputs import score_outputs
from flanscale.evaluation.protocol import Sampling
from flanscale.evaluation.recorded import score_recorded
from flanscale.evaluation.suites import Line, Suite, open_suite
from flanscale.run_directory.evaluations import evaluations, read_records, read_result

WRITTEN = Setting("cot", 1, digits, max_new_tokens=4)


def item(key: str, question: str, right: str) -> Item:
    return Item(key, "a", Prompt("Sum.\n\n", ("Q: 1?\nA: 1\n\n",), f"Q: {question}\nA: So"), (right,))


def suite(samples: int = 1) -> Suite:
    items = (item("a/0", "2 and 3?", "5"), item("a/1", "4 and 5?", "9"), item("a/2", "4 and 5?", "9"))
    asked = Asked(items, {"a": Floor(0.0, 0.0)})
    benchmark = Benchmark("sums", 1, (WRITTEN, RANKED), lambda setting, shots, split: asked)
    return open_suite(
        "outputs",
        [f"sums/cot-sc{samples}" if samples > 1 else "sums/cot"],
        lambda _: benchmark,
        items=None,
        average=None,
        sampling=Sampling(),
    )


def line(samples: int = 1) -> Line:
    return suite(samples).lines[0]


def written(folder: Path, *rows: object) -> Path:
    path = folder / "out.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "said",
    [
        {"key": "a/0"},
        {"question": "2 and 3?"},
        {"question": " Q: 2 and 3?\nA: So "},
        {"question": "Sum.\n\nQ: 1?\nA: 1\n\nQ: 2 and 3?\nA: So"},
    ],
)
def test_an_output_says_of_which_item_it_is(tmp_path: Path, said: dict[str, str]) -> None:
    scored = score_outputs(written(tmp_path, {**said, "output": " it is 5."}), line())
    (record,) = scored.records
    assert (record.key, record.answer, record.scores, scored.without) == ("a/0", "5", {"exact": 100.0}, 2)
    assert record.samples[0].text == " it is 5."


def test_items_that_ask_the_same_share_its_outputs_out(tmp_path: Path) -> None:
    rows = [{"question": "4 and 5?", "output": text} for text in ("9", "8")]
    assert [record.answer for record in score_outputs(written(tmp_path, *rows), line()).records] == ["9", "8"]


def test_several_outputs_of_an_item_vote(tmp_path: Path) -> None:
    rows = [{"key": "a/0", "output": text} for text in ("4", "what", "5", "5")]
    (record,) = score_outputs(written(tmp_path, *rows), line(4)).records
    assert (record.answer, [sample.answer for sample in record.samples]) == ("5", ["4", None, "5", "5"])


def test_outputs_that_nobody_asked_to_vote_do_not(tmp_path: Path) -> None:
    rows = [{"key": "a/0", "output": text} for text in ("4", "5")]
    with pytest.raises(DataError, match=r"2 outputs of a/0, where sums/cot takes 1 of each item"):
        score_outputs(written(tmp_path, *rows), line())


def test_a_file_of_the_same_name_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    one, two = (written(tmp_path / folder, {"key": "a/0", "output": "5"}) for folder in ("one", "two"))
    first = score_recorded(one, suite(), tmp_path / "evaluations")
    with pytest.raises(ConfigError, match="give another folder with --out"):
        score_recorded(two, suite(), tmp_path / "evaluations")
    assert score_recorded(one, suite(), tmp_path / "evaluations") == first


def test_a_document_like_that_of_any_model_is_written_beside_its_records(tmp_path: Path) -> None:
    path = written(tmp_path, {"key": "a/0", "output": "5"}, {"key": "a/1", "output": "what"})
    document = score_recorded(path, suite(), tmp_path / "evaluations")
    (score,) = document["lines"][0]["scores"]
    assert (score["score"], score["n"], score["failures"]) == (50.0, 2, 1)
    (folder,) = evaluations(tmp_path)[0].iterdir()
    assert read_result(folder) == document
    assert [row["key"] for row in read_records(folder, "sums/cot")[0]] == ["a/0", "a/1"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"key": "a/9", "output": "5"}, r"out\.jsonl:1: no item has the key 'a/9'"),
        ({"question": "6?", "output": "5"}, r"out\.jsonl:1: no item asks '6\?'"),
        ({"output": "5"}, r'out\.jsonl:1: expected "key" or "question"'),
        ({"key": "a/0"}, r'out\.jsonl:1: expected a text as "output"'),
        ({"key": "a/0", "output": 5}, r'out\.jsonl:1: expected a text as "output"'),
        ({"key": ["a/0"], "output": "5"}, r"out\.jsonl:1: no item has the key \['a/0'\]"),
        ({"key": "a/0", "output": "\ud800"}, r"out\.jsonl:1: half of a surrogate pair"),
        ([], r"out\.jsonl:1"),
    ],
)
def test_what_is_no_output_is_told_with_its_line(tmp_path: Path, row: object, why: str) -> None:
    with pytest.raises(DataError, match=why):
        score_outputs(written(tmp_path, row), line())


def test_there_must_be_outputs_and_a_setting_that_writes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file of outputs"):
        score_outputs(tmp_path / "gone.jsonl", line())
    with pytest.raises(DataError, match="no output in it"):
        score_outputs(written(tmp_path), line())
    ranked = Line(line().ask, line().benchmark, RANKED, line().asked)
    with pytest.raises(ConfigError, match="ranks options by their probabilities"):
        score_outputs(written(tmp_path, {"key": "a/0", "output": "5"}), ranked)

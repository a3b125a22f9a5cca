"""Our scores in the shape that lm-evaluation-harness gives its own."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from answered import floors, option, record, samples

from flanscale.evaluation.answering import Answered
from flanscale.evaluation.item import Ask, Asked, Benchmark, Item, Prompt, Setting
from flanscale.evaluation.lm_eval_results import WRITTEN, harness_results, write_results
from flanscale.evaluation.metrics import METRICS
from flanscale.evaluation.protocol import Sampling
from flanscale.evaluation.records import Record
from flanscale.evaluation.results import scores_of
from flanscale.evaluation.suites import Line, Suite

DATE = datetime(2024, 5, 17, 9, 30, tzinfo=UTC)
SETTINGS = (
    Setting("letters", 2),
    Setting("cloze", 0, rank="per_byte"),
    Setting("cot", 2, lambda text, item: text, max_new_tokens=64, stop=("\n\nQ:",)),
    Setting("passage", 1, lambda text, item: text, ("qa_exact", "qa_f1"), max_new_tokens=8),
    Setting("open", 0, lambda text, item: text, ()),
)


def nothing(setting: str, shots: int, split: str) -> Asked:
    raise AssertionError("nothing is read again")


def item(key: str, **changed: Any) -> Item:
    prompt = Prompt("Answer. ", ("Q: a? A: b ", "Q: c? A: d "), f"Q: {key}? A:")
    return Item(key, key.partition("/")[0], prompt, **{"references": ("yes",), **changed})


def ranked(key: str, points: float, **changed: Any) -> Record:
    return record(key, points, options=(option(-1.5, tokens=1), option(-0.5)), gold=1, shots=2, **changed)


def line(setting: str, items: list[Item], records: list[Record], **changed: Any) -> Answered:
    ask = Ask("toy", setting, **changed)
    benchmark = Benchmark("toy", 3, SETTINGS, nothing, ("val", "test"))
    asked = Asked(tuple(items), floors(*{one.subtask for one in items}), missing=("fish",))
    return Answered(Line(ask, benchmark, benchmark.setting(ask), asked), tuple(records))


def letters() -> Answered:
    """Three birds, of which one is skipped, and one cat."""
    keys = {"birds/0": 100.0, "birds/1": 0.0, "birds/2": None, "cats/0": 100.0}
    records = [
        record(key, None, status="skipped") if points is None else ranked(key, points) for key, points in keys.items()
    ]
    return line("letters", [item(key, options=(" no", " yes"), gold=1) for key in keys], records)


def cot(**changed: Any) -> Answered:
    records = [
        record("birds/0", samples=samples("yes", "no"), reference="yes", shots=1, dropped=1),
        record("birds/1", 0.0, status="no_answer", answer=None, samples=samples(None, None, ended=False), shots=2),
    ]
    return line("cot", [item("birds/0"), item("birds/1")], records, samples=2, **changed)


def results(*lines: Answered) -> dict[str, Any]:
    suite = Suite("mine", tuple(one.line for one in lines), Sampling(0.7, seed=1), ())
    return harness_results(suite, lines, model="org/model", date=DATE)


def test_a_subtask_is_a_task_and_a_benchmark_in_a_setting_the_group_of_its_tasks() -> None:
    found = results(letters())
    assert found["group_subtasks"] == {"toy_letters": ["toy_letters_birds", "toy_letters_cats"]}
    assert list(found["results"]) == ["toy_letters", "toy_letters_birds", "toy_letters_cats"]
    assert found["groups"] == {"toy_letters": found["results"]["toy_letters"]}
    for what in ("versions", "n-shot", "higher_is_better"):
        assert set(found[what]) == set(found["results"])
    assert set(found["versions"].values()) == {3}
    assert set(found["n-shot"].values()) == {2}
    assert found["higher_is_better"]["toy_letters_cats"] == {"acc": True}
    assert found["n-samples"]["toy_letters_birds"] == {"original": 3, "effective": 2}
    assert found["config"]["model"] == "org/model"


def test_scores_are_shares_and_a_groups_is_the_mean_over_its_subtasks() -> None:
    given = letters()
    found = results(given)["results"]
    assert found["toy_letters_birds"]["acc,none"] == 0.5
    assert found["toy_letters_birds"]["acc_stderr,none"] == pytest.approx(0.5)
    assert found["toy_letters_cats"] == {
        "name": "toy_letters_cats", "alias": "cats", "sample_len": 1, "acc,none": 1.0, "acc_stderr,none": "N/A",
    }  # fmt: skip
    assert found["toy_letters"]["acc,none"] == 0.75
    assert found["toy_letters"]["acc_stderr,none"] == pytest.approx(scores_of([given])[0].stderr / 100)
    assert found["toy_letters"]["sample_count"] == {"acc,none": 3}


def test_a_group_of_which_something_is_missing_does_not_bear_its_benchmarks_name() -> None:
    assert results(letters())["groups"]["toy_letters"]["alias"] == "toy (2 of 3)/letters"


def test_a_benchmark_that_is_its_own_only_subtask_is_a_task_without_a_group() -> None:
    key = "toy/0"
    found = results(line("cot", [item(key)], [record(key, samples=samples("yes"))]))
    assert list(found["results"]) == ["toy_cot"]
    assert (found["group_subtasks"], "groups" in found) == ({}, False)


def test_metrics_have_the_harness_names_and_no_two_of_ours_the_same() -> None:
    cloze = line("cloze", [item("birds/0", options=("a", "b"), gold=1)], [ranked("birds/0", 100.0)])
    assert results(cloze)["results"]["toy_cloze_birds"]["acc_bytes,none"] == 1.0
    assert results(cot())["results"]["toy_cot-sc2_birds"]["exact_match,extracted"] == 0.5
    scored = [record("birds/0", scores={"qa_exact": 0.0, "qa_f1": 40.0}, samples=samples("yes"))]
    passage = results(line("passage", [item("birds/0")], scored))
    assert passage["results"]["toy_passage_birds"]["f1,squad"] == 0.4
    (sample,) = passage["samples"]["toy_passage_birds"]
    assert (sample["metrics"], sample["exact_match"], sample["f1"]) == (["exact_match", "f1"], 0.0, 0.4)
    assert set(WRITTEN) == set(METRICS)
    assert len(set(WRITTEN.values())) == len(METRICS)


def test_a_sample_of_ranked_options_holds_every_request_and_its_log_likelihood() -> None:
    first, second = results(letters())["samples"]["toy_letters_birds"]
    prompt = "Answer. Q: a? A: b Q: c? A: d Q: birds/0? A:"
    assert first["arguments"] == [(prompt, " no"), (prompt, " yes")]
    assert first["resps"] == [[(-1.5, False)], [(-0.5, False)]]
    assert first["filtered_resps"] == [(-1.5, False), (-0.5, False)]
    assert (first["doc_id"], second["doc_id"], first["target"], first["filter"]) == (0, 1, 1, "none")
    assert (first["metrics"], first["acc"], second["acc"]) == (["acc"], 1.0, 0.0)
    assert first["doc"]["key"] == "birds/0"
    assert first["prompt_hash"] == hashlib.sha256(prompt.encode()).hexdigest()


def test_a_sample_of_written_answers_holds_all_of_them_and_what_was_found() -> None:
    first, second = results(cot())["samples"]["toy_cot-sc2_birds"]
    prompt = "Answer. Q: c? A: d Q: birds/0? A:"  # one shot was too much
    how = {"until": ["\n\nQ:"], "max_gen_toks": 64, "do_sample": True, "temperature": 0.7}
    assert first["arguments"] == [(prompt, how)]
    assert (first["resps"], first["filtered_resps"], first["target"]) == ([["yes", "no"]], ["yes"], "yes")
    assert (second["filtered_resps"], second["exact_match"]) == (["[invalid]"], 0.0)
    config = results(cot())["configs"]["toy_cot-sc2_birds"]
    assert (config["generation_kwargs"], config["repeats"], config["test_split"]) == (how, 2, "val")
    assert config["metadata"] == {
        "version": 3, "status": {"answered": 1, "no_answer": 1}, "dropped_shots": 1, "cut_answers": 2,
    }  # fmt: skip


def test_what_is_neither_right_nor_wrong_is_kept_as_samples() -> None:
    found = results(line("open", [item("birds/0")], [record("birds/0", None, samples=samples("A poem."))]))
    (sample,) = found["samples"]["toy_open_birds"]
    assert (sample["resps"], sample["metrics"]) == ([["A poem."]], [])
    assert found["results"]["toy_open_birds"]["sample_len"] == 0


def test_files_lie_where_the_harness_puts_them(tmp_path: Path) -> None:
    path = write_results(results(letters(), cot()), tmp_path, DATE)
    assert path == tmp_path / "org__model" / "results_2024-05-17T09-30-00+00-00.json"
    assert sorted(file.name.split("_2024")[0] for file in path.parent.iterdir()) == [
        "results", "samples_toy_cot-sc2_birds", "samples_toy_letters_birds", "samples_toy_letters_cats",
    ]  # fmt: skip
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert "samples" not in whole
    assert whole["results"]["toy_letters"]["acc,none"] == 0.75
    rows = [json.loads(text) for text in (path.parent / path.name.replace("results", "samples_toy_letters_birds"))
            .with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()]  # fmt: skip
    assert rows[0]["arguments"]["gen_args_1"]["arg_1"] == " yes"
    assert rows[0]["resps"] == [[["-1.5", "False"]], [["-0.5", "False"]]]
    assert rows[0]["target"] == "1"


def test_a_log_likelihood_that_is_no_number_is_written_as_text(tmp_path: Path) -> None:
    lost = record("birds/0", 0.0, options=(option(math.nan), option(-1.0)), gold=1, status="no_answer", answer=None)
    given = line("letters", [item("birds/0", options=(" no", " yes"), gold=1)], [lost])
    path = write_results(results(given), tmp_path, DATE)
    (file,) = path.parent.glob("samples_*.jsonl")
    row = json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert row["filtered_resps"][0] == ["nan", "False"]

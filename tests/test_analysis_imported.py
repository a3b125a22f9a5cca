"""What lm-evaluation-harness measured is a study like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.imported import main, write_study
from analysis.items import items_of, read_answers
from analysis.runs import AnalysisError, table
from analysis.scores import AVERAGE
from analysis.sources import from_directories

STAMP = "2026-11-02T10-00-00.123456"


def harness_file(folder: Path, right: dict[str, list[int]], *, samples: bool = True) -> Path:
    """Results as the harness's EvaluationTracker writes them: a group of two tasks, one that is asked with two filters,
    and one whose metric is no share.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"mmlu": {"alias": "mmlu", "acc,none": 0.123, "acc_stderr,none": 0.01}}
    for task, points in right.items():
        mean = sum(points) / len(points)
        stderr = (mean * (1 - mean) / (len(points) - 1)) ** 0.5
        if task == "gsm8k":
            found = {f"exact_match,{kind}": mean for kind in ("strict-match", "flexible-extract")}
            found |= {f"exact_match_stderr,{kind}": stderr for kind in ("strict-match", "flexible-extract")}
        else:
            found = {"acc,none": mean, "acc_stderr,none": stderr}
        results[task] = {"alias": f" - {task}", "sample_len": len(points), **found}
    results["wikitext"] = {"alias": "wikitext", "word_perplexity,none": 21.5, "word_perplexity_stderr,none": "N/A"}
    document = {
        "results": results,
        "groups": {"mmlu": results["mmlu"]},
        "group_subtasks": {"mmlu": ["mmlu_anatomy", "mmlu_astronomy"], "gsm8k": [], "wikitext": []},
        "versions": dict.fromkeys(results, 1.0),
        "n-shot": {"mmlu_anatomy": 5, "mmlu_astronomy": 5, "gsm8k": 8, "wikitext": 0},
        "higher_is_better": {
            **{task: {"acc": True} for task in ("mmlu", "mmlu_anatomy", "mmlu_astronomy")},
            "gsm8k": {"exact_match": True},
            "wikitext": {"word_perplexity": False},
        },
        "n-samples": {task: {"original": 2 * len(points), "effective": len(points)} for task, points in right.items()},
        "task_hashes": dict.fromkeys(right, "same"),
    }
    path = folder / f"results_{STAMP}.json"
    path.write_text(json.dumps(document))
    for task, points in right.items() if samples else ():
        metric, kinds = ("exact_match", ("strict-match", "flexible-extract")) if task == "gsm8k" else ("acc", ("none",))
        rows = [
            {
                "doc_id": number,
                "filter": kind,
                metric: float(point),
                "prompt_hash": f"{task}{number}",
            }
            for kind in kinds
            for number, point in enumerate(points)
        ]
        (folder / f"samples_{task}_{STAMP}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SMALL = {"mmlu_anatomy": [1, 0, 0, 0], "mmlu_astronomy": [1, 1, 0, 0, 0, 0, 0, 0], "gsm8k": [0, 0, 0, 1]}
LARGE = {"mmlu_anatomy": [1, 1, 0, 0], "mmlu_astronomy": [1, 1, 1, 1, 0, 0, 0, 0], "gsm8k": [0, 1, 0, 1]}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    harness_file(tmp_path / "small", SMALL)
    harness_file(tmp_path / "large", LARGE)
    path = tmp_path / "models.csv"
    rows = [f"{name}/results_{STAMP}.json,{name},{count},false,{size}" for name, count, size in LARGER]
    path.write_text("\n".join(["results,model,mixture.count,cot,parameters", *rows]) + "\n")
    return path


LARGER = (("small", 9, 1_000), ("large", 1836, 5_000))


def test_a_study_of_another_program_has_the_scores_of_its_tasks(models: Path, tmp_path: Path) -> None:
    study = from_directories(write_study(models, tmp_path / "out", floors={"mmlu": 25.0}))
    frame = table(study).set_index(["model", "benchmark", "setting"])
    assert dict(study.models) == {"small": 1_000, "large": 5_000}
    assert frame["count"].groupby("model").first().to_dict() == {"large": 1836, "small": 9}
    assert frame["tasks"].groupby("model").first().to_dict() == {"large": 1836, "small": 9}
    assert set(frame.index.get_level_values("benchmark")) == {"mmlu", "gsm8k", AVERAGE[0]}
    mmlu = frame.loc[("large", "mmlu", "acc-5shot")]
    assert mmlu["score"] == pytest.approx(50), "the mean over tasks, not over items"
    first, second = (0.5 * 0.5 / 3) ** 0.5, (0.5 * 0.5 / 7) ** 0.5
    assert mmlu["stderr"] == pytest.approx(100 * (first**2 + second**2) ** 0.5 / 2)
    assert (mmlu["n"], mmlu["lower_bound"]) == (12, 25)
    assert mmlu["normalized"] == pytest.approx(100 / 3)
    for kind in ("strict-match", "flexible-extract"):
        assert frame.loc[("small", "gsm8k", f"exact_match,{kind}-8shot")]["score"] == pytest.approx(25)
    # A task counts once in the average, however many filters it has.
    assert frame.loc[("large", *AVERAGE)]["normalized"] == pytest.approx((100 / 3 + 50) / 2)


def test_its_models_are_compared_item_by_item_where_there_are_samples(models: Path, tmp_path: Path) -> None:
    study = from_directories(write_study(models, tmp_path / "out", floors={"mmlu": 25.0}))
    answers, damaged = read_answers(study)
    cells = {study.column(point, "model"): point.cell for point in study.points}
    items = items_of(study, answers, "mmlu", "acc-5shot", cells.values())
    assert not damaged
    assert items
    assert items.points_CxN.shape == (2, 12)
    weights = {cells["large"]: 1.0, cells["small"]: -1.0}
    difference = items.points_CxN[items.row[cells["large"]]] - items.points_CxN[items.row[cells["small"]]]
    assert sorted(difference.round(6)) == [0.0] * 9 + [pytest.approx(400 / 3)] * 3
    assert items.variance(weights) > 0
    alone = harness_file(tmp_path / "alone", LARGE, samples=False)
    models.write_text(f"results,model\n{alone.relative_to(tmp_path)},large\n")
    assert read_answers(from_directories(write_study(models, tmp_path / "without"))) == ({}, [])


def test_other_prompts_have_another_hash(models: Path, tmp_path: Path) -> None:
    def prompts(folder: str) -> set[str]:
        study = from_directories(write_study(models, tmp_path / folder))
        return {str(record.last["eval/mmlu/acc-5shot/prompts"]) for record in study.records.values()}

    (same,) = prompts("same")
    path = tmp_path / "large" / f"results_{STAMP}.json"
    path.write_text(path.read_text().replace('"mmlu_anatomy": "same"', '"mmlu_anatomy": "changed"'))
    assert len(prompts("changed") | {same}) == 2


@pytest.mark.parametrize(
    ("table_text", "message"),
    [
        ("", "a row a model, and a column `results`"),
        ("model,seed\nlarge,0\n", "a row a model, and a column `results`"),
        ("results,model\nnowhere.json,large\n", "nowhere.json is no file of results"),
        ("results,model\nbroken.json,large\n", "broken.json is no file of results"),
        ("results,model\nempty.json,large\n", "empty.json: no task has a score"),
        ("results,model\nlist.json,large\n", "list.json is no file of results"),
        ("results,model,extra\nempty.json,'a: b: [,large\n", "cannot be read as a table"),
        (
            f"results,model\nlarge/results_{STAMP}.json,large\nsmall/results_{STAMP}.json,large\n",
            "line 3: an earlier line has the same place",
        ),
    ],
)
def test_a_mistake_is_one_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], table_text: str, message: str
) -> None:
    (tmp_path / "broken.json").write_text('{"results": ')
    (tmp_path / "empty.json").write_text('{"results": {}}')
    (tmp_path / "list.json").write_text("[1]")
    models.write_text(table_text)
    with pytest.raises(SystemExit, match=message) as left:
        main([str(models), str(tmp_path / "out")])
    assert "\n" not in str(left.value)
    with pytest.raises(AnalysisError):
        write_study(models, tmp_path / "out")


def test_a_study_is_not_written_elsewhere(models: Path, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"--name \.\./elsewhere: a study's name is no path"):
        write_study(models, tmp_path / "out", name="../elsewhere")


def test_samples_that_are_cut_off_are_named(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "large" / f"samples_mmlu_anatomy_{STAMP}.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(SystemExit, match=f"samples_mmlu_anatomy_{STAMP}.jsonl holds no samples"):
        main([str(models), str(tmp_path / "out"), "--floor", "mmlu=25"])

"""BIG-Bench Hard: the published prompts to the character, and the published accuracies from the recorded outputs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmark_prompts import CHANGED, prompt_hashes

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.benchmarks import open_benchmark
from flanscale.evaluation.benchmarks.bbh import SUBTASKS
from flanscale.evaluation.item import Ask, Asked, Item
from flanscale.evaluation.metrics import METRICS

THINK = "Let's think step by step."
INSTRUCTION = "Say whether the geese fly.\n\nA goose is a bird."
Example = tuple[str, str]


def worked(number: int, answer: str) -> str:
    return f"Q: Do {number} geese fly?\nA: {THINK}\nGeese have wings: the answer is near.\nSo the answer is {answer}."


SHOTS = [worked(1, "Yes"), worked(2, "No, 3.5"), worked(3, "( [ ) ]")]


def write_examples(folder: Path, subtask: str, examples: Sequence[Example]) -> None:
    path = folder / "bbh" / f"{subtask}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"input": asked, "target": target} for asked, target in examples]
    path.write_text(json.dumps({"canary": "made up", "examples": listed}))


def write_prompt(folder: Path, subtask: str, shots: Sequence[str] = tuple(SHOTS)) -> None:
    path = folder / "cot-prompts" / f"{subtask}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["made up", "-----", "\n\n".join([INSTRUCTION, *shots])]))


def small(folder: Path, subtasks: Sequence[str] = ("navigate", "dyck_languages")) -> Path:
    for subtask in subtasks:
        write_examples(folder, subtask, [("Do 4 geese fly?\nOptions:\n- Yes\n- No", "Yes"), ("Do 5?", "No")])
        write_prompt(folder, subtask)
    return folder


def asked(folder: Path, line: str) -> Asked:
    return open_benchmark("bbh", folder).asked(Ask.parse(line))


def first(folder: Path, line: str) -> Item:
    return asked(folder, line).items[0]


def test_cot_asks_behind_the_published_prompt_to_the_character(tmp_path: Path) -> None:
    item = first(small(tmp_path), "bbh/cot")
    published = (tmp_path / "cot-prompts" / "dyck_languages.txt").read_text().split("-----\n")[1]

    assert item.prompt.text() == f"{published}\n\nQ: Do 4 geese fly?\nOptions:\n- Yes\n- No\nA: {THINK}"
    assert (item.key, item.subtask, item.references) == ("dyck_languages/0", "dyck_languages", ("Yes",))


def test_direct_shows_the_same_examples_with_their_answers_alone(tmp_path: Path) -> None:
    assert first(small(tmp_path), "bbh/direct").prompt.text() == (
        "Say whether the geese fly.\n\n"
        "Q: Do 1 geese fly?\nA: Yes\n\n"
        "Q: Do 2 geese fly?\nA: No, 3.5\n\n"
        "Q: Do 3 geese fly?\nA: ( [ ) ]\n\n"
        "Q: Do 4 geese fly?\nOptions:\n- Yes\n- No\nA:"
    )


@pytest.mark.parametrize(
    ("line", "preamble", "ends"),
    [
        ("bbh/direct-0shot", "Say whether the geese fly.\n\n", "- No\nA:"),
        ("bbh/cot-0shot", f"{INSTRUCTION}\n\n", f"- No\nA: {THINK}"),
        ("bbh/zero_shot_cot", f"{INSTRUCTION}\n\n", f"- No\nA: {THINK}"),
    ],
)
def test_without_shots_the_instruction_and_the_question_stay(
    tmp_path: Path, line: str, preamble: str, ends: str
) -> None:
    prompt = first(small(tmp_path), line).prompt

    assert (prompt.preamble, prompt.shots) == (preamble, ())
    assert prompt.text().endswith(ends)


@pytest.mark.parametrize("setting", ["direct", "cot"])
@pytest.mark.parametrize("shots", range(4))
def test_fewer_shots_are_the_first_ones(tmp_path: Path, setting: str, shots: int) -> None:
    every = first(small(tmp_path), f"bbh/{setting}").prompt

    assert first(tmp_path, f"bbh/{setting}-{shots}shot").prompt.shots == every.shots[:shots]


@pytest.mark.parametrize(("line", "most"), [("bbh/direct-4shot", 3), ("bbh/zero_shot_cot-1shot", 0)])
def test_more_shots_than_there_are_is_refused(tmp_path: Path, line: str, most: int) -> None:
    with pytest.raises(ConfigError, match=f"{line}: it can be asked with 0 to {most} worked examples"):
        asked(small(tmp_path), line)


@pytest.mark.parametrize(
    ("setting", "text", "answer"),
    [
        ("direct", " Yes", "Yes"),
        ("direct", " (B).", "(B)"),
        ("direct", " 3.5.", "3.5"),
        ("direct", " -5", "-5"),
        ("direct", " ] ) >", "] ) >"),
        ("direct", "\n No \nQ: And 6?", "No"),
        ("direct", " ...", ".."),
        ("direct", " \n", None),
        ("direct", ".", None),
        ("cot", " They have wings. So the answer is Yes.", "Yes"),
        ("cot", " the answer is No. But they do, so the answer is Yes.\nQ: And 6?\nA: No", "Yes"),
        ("cot", " So The answer is\n(C).", "(C)"),
        ("cot", " So the answer is ] ) >.", "] ) >"),
        ("cot", " So the answer is -3.5..", "-3.5."),
        ("cot", " Yes", None),
        ("cot", " So the answer is .", None),
        ("zero_shot_cot", " So the answer is valid.", "valid"),
    ],
)
def test_an_answer_is_one_line_of_which_one_full_stop_goes(
    tmp_path: Path, setting: str, text: str, answer: str | None
) -> None:
    benchmark = open_benchmark("bbh", small(tmp_path))
    extract = benchmark.setting(Ask("bbh", setting)).extract
    assert extract
    assert extract(text, first(tmp_path, f"bbh/{setting}")) == answer


def test_right_is_right_to_the_character() -> None:
    assert METRICS["exact"]("] ) >", ("] ) >",)) == 100
    assert not any(METRICS["exact"](wrong, ("] ) >",)) for wrong in ("", "])>", "] ) > "))


@pytest.mark.parametrize(
    ("subtask", "examples", "chance", "majority"),
    [
        (
            "date_understanding",
            [("When?\nOptions:\n(A) a\n(B) b", "(A)"), ("When?\nOptions:\n(A) a\n(B) b\n(C) c\n(D) d", "(A)")],
            *(37.5, 100),
        ),
        ("navigate", [("Back?\nOptions:\n- Yes\n- No", "Yes"), ("Now?\nOptions:\n- Yes\n- No", "No")], 50, 50),
        ("web_of_lies", [("Does one lie?", "Yes"), ("Two?", "Yes"), ("Three?", "No")], 50, 200 / 3),
        ("word_sorting", [("Sort these:\n- b\n- a", "a b"), ("Sort (A) b a", "a b")], 0, 100),
    ],
)
def test_chance_is_counted_from_the_options(
    tmp_path: Path, subtask: str, examples: list[Example], chance: float, majority: float
) -> None:
    write_examples(tmp_path, subtask, examples)
    write_prompt(tmp_path, subtask)
    floor = asked(tmp_path, "bbh").floors[subtask]

    assert (floor.chance, floor.majority) == pytest.approx((chance, majority))


def test_the_papers_floors_are_those_that_give_its_normalised_averages(tmp_path: Path) -> None:
    floors = asked(small(tmp_path, SUBTASKS), "bbh").floors

    assert len(floors) == 27
    assert [floors[name].paper for name in ("navigate", "penguins_in_a_table", "dyck_languages")] == [50, 0, 1.2]
    assert sum(floor.paper for floor in floors.values()) == pytest.approx(
        8 * 50 + 33.2 + 17.2 + 3 * 25 + 16.7 + 11.6 + 11.9 + 2 * (33.3 + 20 + 14.3) + 1.2
    )


def test_direct_with_three_shots_comes_first_and_keys_and_order_are_the_same_everywhere(tmp_path: Path) -> None:
    keys = ["dyck_languages/0", "dyck_languages/1", "navigate/0", "navigate/1"]
    small(tmp_path / "one", ("navigate", "dyck_languages"))
    small(tmp_path / "two", ("dyck_languages", "navigate"))

    assert asked(tmp_path / "one", "bbh") == asked(tmp_path / "one", "bbh/direct-3shot-test")
    for folder in ("one", "two"):
        for setting in ("direct", "cot", "zero_shot_cot"):
            assert [item.key for item in asked(tmp_path / folder, f"bbh/{setting}").items] == keys


def test_a_subtask_without_examples_or_without_a_prompt_is_named_as_missing(tmp_path: Path) -> None:
    small(tmp_path, SUBTASKS)
    (tmp_path / "bbh" / "ruin_names.json").unlink()
    (tmp_path / "cot-prompts" / "snarks.txt").unlink()
    found = asked(tmp_path, "bbh/direct")

    assert found.missing == ("ruin_names", "snarks")
    assert set(found.floors) == {item.subtask for item in found.items} == set(SUBTASKS) - {"ruin_names", "snarks"}


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("bbh/navigate.json", '{"canary": "c", "examples": [{"inp', r"navigate\.json:1: not JSON"),
        ("bbh/navigate.json", '{"examples": [{"input": "q"}]}', r"navigate\.json: expected .*KeyError: 'target'"),
        (
            "bbh/navigate.json",
            '{"examples": [{"input": "q", "target": "t"}, {"input": "q", "target": " "}]}',
            r"navigate\.json: examples\[1\] has an empty input or target",
        ),
        ("bbh/navigate.json", '{"examples": []}', r"navigate\.json: no example in it"),
        ("bbh/navigates.json", '{"examples": [{"input": "q", "target": "t"}]}', "bbh: navigates is no subtask"),
        ("cot-prompts/navigate.txt", "made up\nno rule", r"navigate\.txt: expected a line with a canary"),
        ("cot-prompts/navigate.txt", "made up\n-----\nSay.", r"navigate\.txt: navigate: expected worked examples"),
        (
            "cot-prompts/navigate.txt",
            f"made up\n-----\nSay.\n\n{SHOTS[0]}\n\n{SHOTS[1][:60]}",
            r"navigate\.txt: navigate: worked example 2 of 2 lacks",
        ),
        (
            "cot-prompts/navigate.txt",
            f"made up\n-----\nSay.\n\n{SHOTS[0]}\n\n{SHOTS[1]}",
            r"navigate\.txt: 2 worked examples, but 3 are asked for",
        ),
    ],
)
def test_a_malformed_or_cut_file_is_one_line_that_names_it(tmp_path: Path, path: str, content: str, told: str) -> None:
    (small(tmp_path) / path).write_text(content)
    with pytest.raises(DataError, match=told) as error:
        asked(tmp_path, "bbh/cot")
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bbh: nothing of this benchmark is there"):
        asked(tmp_path, "bbh")
    write_examples(tmp_path, "navigate", [("q", "t")])
    with pytest.raises(DataError, match="cot-prompts: no prompt there"):
        asked(tmp_path, "bbh")


def test_the_version_stands_for_every_prompt(tmp_path: Path) -> None:
    benchmark = open_benchmark("bbh", small(tmp_path))

    assert benchmark.version == 1
    assert prompt_hashes(benchmark) == {
        "direct": "c9c88fe5f3d02328",
        "cot": "470bd4d4d04536bb",
        "zero_shot_cot": "ffce1533983023ad",
    }, CHANGED


@pytest.mark.data
def test_the_version_stands_for_every_prompt_of_the_published_files(shared_data: Path) -> None:
    benchmark = open_benchmark("bbh", shared_data / "bbh")

    assert benchmark.version == 1
    assert prompt_hashes(benchmark) == {
        "direct": "40611d475081f580",
        "cot": "ee09359a74693605",
        "zero_shot_cot": "eaff21478f61c3ba",
    }, CHANGED


@pytest.mark.data
def test_the_published_files_here_are_24_of_27_subtasks_with_their_chance(shared_data: Path) -> None:
    found = asked(shared_data / "bbh", "bbh")
    chance = {name: round(floor.chance, 1) for name, floor in found.floors.items()}

    assert (len(found.items), len(found.floors)) == (5_761, 24)
    assert found.missing == ("object_counting", "ruin_names", "web_of_lies")
    assert {chance[name] for name in ("boolean_expressions", "causal_judgement", "sports_understanding")} == {50}
    listed = ("date_understanding", "disambiguation_qa", "geometric_shapes", "penguins_in_a_table", "snarks")
    assert [chance[name] for name in listed] == [17.2, 33.2, 9.8, 20.0, 50.3]
    assert [chance[name] for name in ("dyck_languages", "multistep_arithmetic_two", "word_sorting")] == [0, 0, 0]


@pytest.fixture
def recorded() -> Path:
    """A clone of suzgunmirac/BIG-Bench-Hard, which holds all that code-davinci-002 was asked and what it wrote."""
    folder = Path(os.environ.get("FLANSCALE_BIG_BENCH_HARD", "nowhere"))
    if not (folder / "code-davinci-002-outputs").is_dir():
        pytest.skip("set FLANSCALE_BIG_BENCH_HARD to a clone of https://github.com/suzgunmirac/BIG-Bench-Hard")
    return folder


@pytest.mark.data
@pytest.mark.parametrize(
    ("mode", "mean", "other_prompts"),
    [("direct", 52.7597, {"date_understanding", "tracking_shuffled_objects_three_objects"}), ("cot", 73.7116, set())],
)
def test_recorded_outputs_give_every_published_accuracy(
    recorded: Path, mode: str, mean: float, other_prompts: set[str]
) -> None:
    benchmark = open_benchmark("bbh", recorded)
    found, setting = benchmark.asked(Ask("bbh", mode)), benchmark.setting(Ask("bbh", mode))
    assert setting.extract
    accuracies, differ = [], set()
    for subtask in SUBTASKS:
        stem = f"code-davinci-002-outputs/code-davinci-002-{mode}/{subtask}_few_shot_template_0-255000"
        outputs = json.loads((recorded / f"{stem}.json").read_text())["outputs"]
        published = json.loads((recorded / f"{stem}_eval_metrics.jsonl").read_text())["accuracy"]
        points = []
        for item, output in zip((item for item in found.items if item.subtask == subtask), outputs, strict=True):
            assert not any(stop in output["prediction"] for stop in setting.stop)
            answer = setting.extract(output["prediction"], item)
            points.append(0 if answer is None else METRICS["exact"](answer, item.references))
            if item.prompt.text() != output["input"] and item.key != "snarks/88":  # whole when it was asked
                differ.add(subtask)
        accuracies.append(sum(points) / len(points))
        assert accuracies[-1] == pytest.approx(published, abs=1e-9), subtask
    assert sum(accuracies) / 27 == pytest.approx(mean, abs=1e-4)
    assert differ == other_prompts

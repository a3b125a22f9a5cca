"""A suite is known by everything that decides what an answer is worth, and says what it cannot ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from test_evaluation_asking import RANKED, WRITTEN, item

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.item import Ask, Asked, Benchmark, Floor
from flanscale.evaluation.protocol import Sampling
from flanscale.evaluation.suites import Suite, open_suite


def benchmark(name: str = "bench", **changes: object) -> Benchmark:
    def read(setting: str, shots: int, split: str) -> Asked:
        items = tuple(replace(item(n, shots), key=f"{split}/{n}") for n in range(20))
        return Asked(items, {"a": Floor(0.0, 0.0)})

    made = Benchmark(name, 1, (WRITTEN, RANKED), read, splits=("test", "val"))
    return replace(made, **changes)


def suite(*asks: str, opened: Callable[[str], Benchmark] = benchmark, **changes: object) -> Suite:
    given = {"items": None, "average": None, "sampling": Sampling(0.7)}
    return open_suite("s", asks, opened, **{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("mmlu", Ask("mmlu")),
        ("mmlu/letters", Ask("mmlu", "letters")),
        ("mmlu/letters-0shot-test", Ask("mmlu", "letters", 0, 1, "test")),
        ("gsm8k/cot-sc40", Ask("gsm8k", "cot", None, 40)),
        ("bbh/zero_shot_cot-3shot-sc2-val", Ask("bbh", "zero_shot_cot", 3, 2, "val")),
    ],
)
def test_a_line_is_written_as_its_scores_are_named(text: str, ask: Ask) -> None:
    assert Ask.parse(text) == ask
    assert str(ask) == text


@pytest.mark.parametrize(
    "text", ["", "MMLU", "mmlu/", "mmlu/a/b", "mmlu/cot-sc1", "mmlu/cot-sc0", "mmlu/cot-5shots-x y"]
)
def test_what_is_no_line_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no line of a suite"):
        Ask.parse(text)


def test_what_is_not_said_is_the_benchmarks_choice() -> None:
    (line,) = suite("bench").lines
    assert (line.name, line.setting, len(line.asked.items[0].prompt.shots)) == ("bench/direct", WRITTEN, 2)
    assert line.asked.items[0].key == "test/0"
    (other,) = suite("bench/direct-1shot-val").lines
    assert (other.name, len(other.asked.items[0].prompt.shots)) == ("bench/direct-1shot-val", 1)
    assert other.asked.items[0].key == "val/0"


def test_a_part_of_the_items_is_the_same_for_everyone_and_in_every_larger_part() -> None:
    few, more = ({i.key for i in suite("bench", items=n).lines[0].asked.items} for n in (3, 8))
    assert few < more
    (first,) = suite("bench", items=3, opened=lambda name: benchmark(name, in_order=True)).lines
    assert [i.key for i in first.asked.items] == ["test/0", "test/1", "test/2"]


def test_everything_that_decides_what_an_answer_is_worth_is_in_its_fingerprint() -> None:
    plain = suite("bench").fingerprint
    assert plain == suite("bench").fingerprint
    changed = [
        suite("bench/letters"),
        suite("bench/direct-1shot"),
        suite("bench/direct-sc2"),
        suite("bench", items=5),
        suite("bench", sampling=Sampling(0.5)),
        suite("bench", opened=lambda name: benchmark(name, version=2)),
        suite("bench", opened=lambda name: benchmark(name, settings=(replace(WRITTEN, max_new_tokens=5),))),
        suite("bench", opened=lambda name: benchmark(name, settings=(replace(WRITTEN, stop=()),))),
    ]
    assert len({plain, *(one.fingerprint for one in changed)}) == 1 + len(changed)


def test_what_cannot_be_asked_is_a_fault_and_the_rest_goes_on() -> None:
    def opened(name: str) -> Benchmark:
        if name == "gone":
            raise DataError("no data of gone: give data.benchmarks")
        return benchmark(name)

    made = suite("gone", "bench", opened=opened)
    assert [line.name for line in made.lines] == ["bench/direct"]
    assert made.faults == ("gone: no data of gone: give data.benchmarks",)


def test_a_setting_that_there_is_not_is_the_users_mistake() -> None:
    with pytest.raises(ConfigError, match=r"bench has no setting 'letter' \(did you mean letters\?\); it has di"):
        suite("bench/letter")
    with pytest.raises(ConfigError, match="bench has no split 'dev'; it has test, val"):
        suite("bench/letters-dev")


def test_the_average_is_of_those_that_are_named_or_of_all_that_can_be_scored() -> None:
    free = replace(WRITTEN, name="free", metrics=())
    opened = lambda name: benchmark(name, settings=(WRITTEN, RANKED, free))  # noqa: E731
    asks = ("bench/direct", "bench/letters", "bench/free")
    assert suite(*asks, opened=opened).average == ("bench/direct", "bench/letters")
    assert suite(*asks, opened=opened, average=["bench/letters"]).average == ("bench/letters",)


@pytest.mark.parametrize(
    ("asks", "why"),
    [
        (["bench/{}", "bench"], "bench: the same line as bench/"),
        (["bench/{ranked}-sc4"], "ranks options by their probabilities, of which there are no samples"),
    ],
)
def test_lines_that_say_nothing_of_their_own_are_the_users_mistake(asks: list[str], why: str) -> None:
    told = [ask.replace("{}", WRITTEN.name).replace("{ranked}", RANKED.name) for ask in asks]
    with pytest.raises(ConfigError, match=why):
        suite(*told)

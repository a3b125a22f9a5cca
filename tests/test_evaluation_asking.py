"""Items are asked as they fit, answers are read by the benchmark's rule, and every item leaves a record."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from fake_model import FakeModel

from flanscale.evaluation.asking import ask
from flanscale.evaluation.item import Ask, Asked, Benchmark, Floor, Item, Prompt, Setting
from flanscale.evaluation.protocol import Sampling
from flanscale.evaluation.records import Record
from flanscale.evaluation.suites import Line, prompt_hash


def digits(text: str, item: Item) -> str | None:
    found = "".join(letter for letter in text if letter.isdigit())
    return found or None


WRITTEN = Setting("direct", 2, digits, max_new_tokens=4, stop=("\n",))
RANKED = Setting("letters", 0, neutral="?")


def item(number: int, shots: int = 2, **other: object) -> Item:
    prompt = Prompt("Sum. ", tuple(f"<{n}>" for n in range(shots)), f"{number}?")
    return Item(**{"key": f"test/{number}", "subtask": "a", "prompt": prompt, "references": (str(number),), **other})


def ranked(number: int, options: tuple[str, ...] = (" a", " bb", " ccc"), gold: int = 0, **other: object) -> Item:
    return item(number, 0, options=options, gold=gold, references=(options[gold].strip(),), **other)


def line(setting: Setting, *items: Item, samples: int = 1) -> Line:
    asked = Asked(tuple(items), {"a": Floor(0.0, 0.0)})
    benchmark = Benchmark("bench", 1, (setting,), lambda name, shots, split: asked)
    return Line(Ask("bench", setting.name, samples=samples), benchmark, setting, asked)


def records(made: Line, model: FakeModel, **given: object) -> dict[str, Record]:
    found = [record for batch in ask(made, model, Sampling(0.7), **given) for record in batch]  # type: ignore[arg-type]
    assert len({record.key for record in found}) == len(found)
    return {record.key: record for record in found}


def test_an_answer_is_read_compared_and_recorded_as_it_was_written() -> None:
    model = FakeModel(says=lambda prompt, _: {"7?": "it 7", "8?": "9"}[prompt[-2:]])
    found = records(line(WRITTEN, item(7), item(8)), model)
    right, wrong = found["test/7"], found["test/8"]
    assert (right.status, right.answer, right.reference, right.scores) == ("answered", "7", "7", {"exact": 100.0})
    assert (wrong.answer, wrong.scores) == ("9", {"exact": 0.0})
    assert (right.samples[0].text, right.samples[0].tokens, right.samples[0].ended) == ("it 7", 4, False)
    assert (right.shots, right.dropped, right.prompt_tokens) == (2, 0, len("Sum. <0><1>7?"))
    assert model.given == [{"max_new_tokens": 4, "stop": ("\n",), "sampling": Sampling()}]


def test_a_text_without_an_answer_is_wrong_and_told_apart() -> None:
    found = records(line(WRITTEN, item(7)), FakeModel(says=lambda *_: "what?"))["test/7"]
    assert (found.status, found.answer, found.scores) == ("no_answer", None, {"exact": 0.0})


def test_too_long_a_prompt_loses_whole_shots_from_the_front_and_never_its_question() -> None:
    long = item(7, shots=3)
    for room, kept in ((4 + 16, 3), (4 + 15, 2), (4 + 12, 1), (4 + 9, 0)):
        model = FakeModel(room=room, says=lambda *_: "7")
        found = records(line(WRITTEN, long), model)["test/7"]
        assert model.asked == ["Sum. " + "".join(f"<{n}>" for n in range(3 - kept, 3)) + "7?"]
        assert (found.shots, found.dropped) == (kept, 3 - kept)
        assert found.prompt_hash == prompt_hash(long), "of the whole prompt, so that models of other sizes compare"


def test_a_question_that_is_too_long_by_itself_is_skipped_and_counts_for_nothing() -> None:
    model = FakeModel(room=4 + 6, says=lambda *_: "7")
    found = records(line(WRITTEN, item(7)), model)["test/7"]
    assert (found.status, found.scores, found.answer, model.asked) == ("skipped", {}, None, [])


def test_samples_vote_and_those_without_an_answer_do_not() -> None:
    said = ["what", "9", "7", "7", "no"]
    found = records(line(WRITTEN, item(7), samples=5), FakeModel(says=lambda _, sample: said[sample]))["test/7"]
    assert (found.answer, found.scores["exact"]) == ("7", 100.0)
    assert [sample.answer for sample in found.samples] == [None, "9", "7", "7", None]


def test_one_sample_is_the_most_likely_one_and_several_are_drawn() -> None:
    for samples, temperature in ((1, 0.0), (3, 0.7)):
        model = FakeModel(says=lambda *_: "7")
        records(line(WRITTEN, item(7), samples=samples), model)
        assert model.given[0]["sampling"].temperature == temperature


def test_where_nothing_tells_right_from_wrong_the_answer_that_people_see_counts() -> None:
    free = replace(WRITTEN, metrics=())
    found = records(line(free, item(7, references=()), samples=3), FakeModel(says=lambda _, n: f"{n}"))["test/7"]
    assert (found.answer, found.scores, found.reference) == ("0", {}, None)


def test_the_most_likely_option_is_the_answer() -> None:
    found = records(line(RANKED, ranked(1), ranked(2, gold=2)), FakeModel())
    assert (found["test/1"].answer, found["test/1"].scores) == ("a", {"exact": 100.0})
    assert (found["test/2"].answer, found["test/2"].scores, found["test/2"].gold) == ("a", {"exact": 0.0}, 2)
    first = found["test/1"].options[1]
    assert (first.logprob, first.unconditional, first.tokens, first.bytes) == (-3.0, -3.0, 1, 2)


@pytest.mark.parametrize(("rank", "expected"), [("sum", "a"), ("per_byte", "ccc"), ("pmi", "bb")])
def test_options_are_ranked_as_the_setting_says(rank: str, expected: str) -> None:
    def thinks(prompt: str, option: str) -> float:
        behind, alone = {" a": (-3, -1), " bb": (-4.5, -9), " ccc": (-6, -4)}[option]
        return alone if prompt == "?" else behind

    made = line(replace(RANKED, rank=rank), ranked(1))
    assert records(made, FakeModel(thinks=thinks))["test/1"].answer == expected


@pytest.mark.parametrize("value", [math.nan, -math.inf, -1.0])
def test_what_is_no_number_or_says_the_same_of_all_is_no_answer(value: float) -> None:
    """And never the first option."""
    found = records(line(RANKED, ranked(1)), FakeModel(thinks=lambda *_: value))["test/1"]
    assert (found.status, found.answer, found.scores) == ("no_answer", None, {"exact": 0.0})
    assert Record.of(found.line()).line() == found.line()


def test_an_option_with_the_text_of_the_right_one_is_right() -> None:
    twice = ranked(1, options=(" a", " bb", " bb"), gold=2)
    found = records(line(RANKED, twice), FakeModel(thinks=lambda _, option: float(len(option))))["test/1"]
    assert (found.scores["exact"], found.flags) == (100.0, ("duplicate_options",))


def test_a_prompt_must_leave_room_for_its_longest_option() -> None:
    worked = replace(RANKED, shots=1)
    long = Item("k", "a", Prompt("", ("<0>",), "1?"), ("a",), (" a", " bbbb"), 0)
    for room, kept in ((10, 1), (9, 0)):
        assert records(line(worked, long), FakeModel(room=room))["k"].shots == kept


def test_neutral_prompts_are_asked_once_for_all_items_with_the_same_options() -> None:
    model = FakeModel()
    records(line(RANKED, *(ranked(n) for n in range(6))), model)
    assert model.asked.count("?") == 1


def test_what_is_done_is_not_asked_again_and_what_comes_is_the_same() -> None:
    """Of batches of two, in the reverse order."""
    made = line(WRITTEN, *(item(number) for number in range(5)))
    whole = records(made, FakeModel(says=lambda prompt, _: prompt[-2]))
    model = FakeModel(says=lambda prompt, _: prompt[-2])
    rest = records(made, model, done={"test/4", "test/3", "test/2"})
    assert set(rest) == {"test/2", "test/1", "test/0"}, "whole batches"
    assert all(whole[key] == record for key, record in rest.items())


def test_items_that_training_may_have_seen_are_flagged() -> None:
    found = records(line(WRITTEN, item(7), item(8)), FakeModel(), contaminated={"test/8"})
    assert (found["test/7"].flags, found["test/8"].flags) == ((), ("contaminated",))


def test_a_record_survives_json() -> None:
    for made, model in (
        (line(WRITTEN, item(7), samples=2), FakeModel(says=lambda *_: "7")),
        (line(RANKED, ranked(1)), FakeModel()),
    ):
        for record in records(made, model).values():
            assert Record.of(record.line()) == record

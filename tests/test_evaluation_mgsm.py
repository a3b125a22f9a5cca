"""MGSM: ten languages in their own words, whose problems of one place err together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from flanscale.errors import DataError
from flanscale.evaluation.benchmarks import open_benchmark
from flanscale.evaluation.benchmarks.mgsm import DECIMAL_COMMA
from flanscale.evaluation.item import Ask, Asked
from flanscale.evaluation.metrics import METRICS
from flanscale.evaluation.numbers import last_number

GERMAN = {
    "1": {"q": "Frage: Tim hat 2 Hefte und kauft 3. Wie viele hat er?", "a": "Schritte: 2 + 3 = 5. Es sind 5."},
    "2": {"q": "Frage: Was ist 4 + 4?", "a": "Schritte: 4 + 4 = 8. Es sind 8."},
}
JAPANESE = {
    "1": {"q": "問題：本が2冊と3冊あります。", "a": "手順：2+3=5。5冊です。"},
    "2": {"q": "問題：4+4は？", "a": "手順：4+4=8。8です。"},
}
PROBLEMS = {
    "de": "Was kosten 2 Räder?\t5,600\nWie viele?\t-3\n",
    "ja": "自転車2台は？\t5,600\nいくつ？\t-3\n",
    "en": "What do 2 bikes cost?\t5,600\nHow many?\t-3\n",
}


def write(folder: Path, exemplars: dict[str, Any], **problems: str) -> None:
    record = {"EXEMPLAR_NUMBER_ANSWERS": [5, 8], "MGSM_EXEMPLARS": exemplars}
    (folder / "exemplars.json").write_text(json.dumps(record))
    for language, text in problems.items():
        (folder / f"mgsm_{language}.tsv").write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, {"de": GERMAN, "ja": JAPANESE, "en": GERMAN}, **PROBLEMS)
    return tmp_path


def asked(folder: Path, line: str) -> Asked:
    return open_benchmark("mgsm", folder).asked(Ask.parse(line))


def extracted(folder: Path, line: str, key: str, text: str) -> str | None:
    extract = open_benchmark("mgsm", folder).setting(Ask.parse(line)).extract
    assert extract
    return extract(text, next(item for item in asked(folder, line).items if item.key == key))


def fingerprint(folder: Path, shots: int) -> str:
    """Of every prompt of every setting."""
    whole = hashlib.sha256()
    for setting in open_benchmark("mgsm", folder).settings:
        for item in asked(folder, f"mgsm/{setting.name}-{shots}shot").items:
            whole.update(f"{setting.name}\0{item.key}\0{item.prompt.text()}\0".encode())
    return whole.hexdigest()[:16]


def test_problems_are_asked_step_by_step_in_their_own_language_with_eight_shots(folder: Path) -> None:
    setting = open_benchmark("mgsm", folder).setting(Ask.parse("mgsm"))
    assert (setting.name, setting.shots, setting.metrics) == ("cot", 8, ("exact",))
    prompts = {item.key: item.prompt for item in asked(folder, "mgsm/cot-2shot").items}
    assert prompts["de/0"].shots[1] == "Frage: Was ist 4 + 4?\nSchritte: 4 + 4 = 8. Es sind 8.\n\n"
    assert prompts["de/0"].question == "Frage: Was kosten 2 Räder?\nSchritte:"
    assert prompts["ja/1"].shots[0] == "問題：本が2冊と3冊あります。\n手順：2+3=5。5冊です。\n\n"
    assert prompts["ja/1"].question == "問題：いくつ？\n手順："


def test_without_shots_a_problem_stands_between_the_same_words(folder: Path) -> None:
    for line in ("mgsm/cot", "mgsm/direct"):
        with_shots, without = (asked(folder, f"{line}-{shots}shot").items for shots in (2, 0))
        assert [item.prompt.text() for item in without] == [item.prompt.question for item in with_shots]


def test_direct_shots_are_numbers_behind_the_language_s_word_for_an_answer(folder: Path) -> None:
    prompts = {item.key: item.prompt for item in asked(folder, "mgsm/direct-2shot").items}
    assert prompts["de/0"].text() == (
        "Frage: Tim hat 2 Hefte und kauft 3. Wie viele hat er?\nAntwort: 5\n\n"
        "Frage: Was ist 4 + 4?\nAntwort: 8\n\nFrage: Was kosten 2 Räder?\nAntwort:"
    )
    assert prompts["ja/0"].question == "問題：自転車2台は？\n答え："


def test_problems_of_one_place_are_one_cluster_across_languages(folder: Path) -> None:
    items = asked(folder, "mgsm/direct-0shot").items
    assert [(item.key, item.subtask, item.cluster) for item in items] == [
        ("de/0", "de", "0"),
        ("de/1", "de", "1"),
        ("ja/0", "ja", "0"),
        ("ja/1", "ja", "1"),
    ]


def test_references_are_numbers_in_the_form_of_answers(folder: Path) -> None:
    items = {item.key: item for item in asked(folder, "mgsm/cot-0shot").items}
    answers = {
        ("de/0", "Also 5.600."), ("de/0", "Also 5 600 Euro"), ("de/0", "Also 5.600,00 €"), ("de/0", "5,600"),
        ("ja/0", "答えは5,600です。"), ("ja/0", "答えは５６００円です"), ("ja/1", "答えは−3です"), ("de/1", "Also -3."),
    }  # fmt: skip
    for key, text in answers:
        answer = extracted(folder, "mgsm/cot-0shot", key, text)
        assert answer
        assert METRICS["exact"](answer, items[key].references) == 100.0, (key, text)


def test_a_point_before_three_digits_is_a_decimal_one_where_the_language_has_it(folder: Path) -> None:
    assert extracted(folder, "mgsm/cot-0shot", "ja/0", "5.600") == "5.6"
    assert extracted(folder, "mgsm/cot-0shot", "de/0", "5.600") == "5600"


def test_the_answer_ends_before_the_model_s_next_question(folder: Path) -> None:
    assert extracted(folder, "mgsm/cot-0shot", "de/0", " 2 * 3 = 6.\n\nFrage: Was ist 9?") == "6"
    assert extracted(folder, "mgsm/cot-0shot", "ja/0", "2*3=6。問題：9は？") == "6"
    assert extracted(folder, "mgsm/direct-0shot", "ja/0", "6です。\n7") == "6"
    assert extracted(folder, "mgsm/cot-0shot", "de/0", "Frage: Was ist 9?") is None


def test_languages_without_problems_or_without_exemplars_are_named_and_english_is_none_of_them(folder: Path) -> None:
    whole = asked(folder, "mgsm/cot-2shot")
    assert whole.missing == ("bn", "es", "fr", "ru", "sw", "te", "th", "zh")
    assert list(whole.floors) == ["de", "ja"]
    write(folder, {"ja": JAPANESE})
    assert "de" in asked(folder, "mgsm/cot-2shot").missing


def test_guessing_scores_nought_and_the_most_frequent_answer_its_share(folder: Path) -> None:
    write(folder, {"de": GERMAN}, de="a\t3\nb\t3.0\nc\t4\n", ja="a\t3\nb\t3\nc\t4\n")
    floor = asked(folder, "mgsm/cot-2shot").floors["de"]
    assert (floor.paper, floor.chance) == (0.0, 0.0)
    assert floor.majority == pytest.approx(100 * 2 / 3)


def test_a_file_that_was_cut_is_known_by_its_translations(folder: Path) -> None:
    (folder / "mgsm_ja.tsv").write_text("自転車2台は？\t5,600\n")
    with pytest.raises(DataError, match=r"mgsm_ja\.tsv:2: the file ends before the translation in mgsm_de\.tsv, -3"):
        asked(folder, "mgsm/cot-2shot")
    (folder / "mgsm_ja.tsv").write_text("自転車2台は？\t5,6\nいくつ？\t-3\n")
    with pytest.raises(DataError, match=r"mgsm_ja\.tsv:1: the answer is 6, not that of the .* in mgsm_de\.tsv, 5600"):
        asked(folder, "mgsm/cot-2shot")


@pytest.mark.parametrize("line", ["no tab", "What?\t", "What?\tfive", "\t5"])
def test_a_malformed_line_is_named(folder: Path, line: str) -> None:
    (folder / "mgsm_de.tsv").write_text(f"Was?\t5\n{line}\n")
    with pytest.raises(DataError, match=r"mgsm_de\.tsv:2: expected question, tab, number"):
        asked(folder, "mgsm/cot-2shot")


def test_exemplars_of_another_form_are_errors_that_name_them(folder: Path) -> None:
    with pytest.raises(DataError, match=r"exemplars\.json: 2 exemplars of de; asked for 8 shots"):
        asked(folder, "mgsm")
    write(folder, {"de": {**GERMAN, "1": {"q": "Was ist das?", "a": "5"}}})
    with pytest.raises(DataError, match=r"exemplars\.json: MGSM_EXEMPLARS\.de\.1: expected words and a colon"):
        asked(folder, "mgsm/cot-1shot")
    write(folder, {"de": {"1": GERMAN["1"]}})
    with pytest.raises(DataError, match=r"exemplars\.json: expected MGSM_EXEMPLARS"):
        asked(folder, "mgsm/cot-1shot")


@pytest.mark.parametrize("left", ["exemplars.json", "mgsm_de.tsv"])
def test_a_folder_without_anything_to_ask_is_an_error(folder: Path, left: str) -> None:
    for path in folder.iterdir():
        if path.name != left:
            path.unlink()
    with pytest.raises(DataError, match=r"expected mgsm_<language>\.tsv of bn, de, .* and exemplars\.json"):
        asked(folder, "mgsm")


def test_a_changed_prompt_has_a_version_of_its_own(folder: Path) -> None:
    told = (open_benchmark("mgsm", folder).version, fingerprint(folder, 2))
    assert told == (1, "fcc79ae9f19fa3fd"), (
        "a changed prompt raises the benchmark's version: scores are compared within one"
    )


@pytest.mark.data
def test_the_published_problems_make_the_prompts_of_this_version(shared_data: Path) -> None:
    folder = shared_data / "mgsm"
    whole = asked(folder, "mgsm")
    assert {item.subtask for item in whole.items} | set(whole.missing) == {
        *("bn", "de", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")
    }
    assert len({item.cluster for item in whole.items}) == 250
    assert len(whole.items) == 250 * (10 - len(whole.missing))
    if whole.missing == ("fr", "sw"):
        told = (open_benchmark("mgsm", folder).version, fingerprint(folder, 8))
        assert told == (1, "be2ce5848a045e58"), (
            "a changed prompt raises the benchmark's version: scores are compared within one"
        )


@pytest.mark.data
def test_every_published_exemplar_ends_in_its_answer_in_every_language(shared_data: Path) -> None:
    record = json.loads((shared_data / "mgsm" / "exemplars.json").read_text())
    for language, shots in record["MGSM_EXEMPLARS"].items():
        solutions = [shots[str(number)]["a"] for number in range(1, 9)]
        answers = [last_number(solution, decimal_comma=language in DECIMAL_COMMA) for solution in solutions]
        assert answers == [str(answer) for answer in record["EXEMPLAR_NUMBER_ANSWERS"]], language


@pytest.mark.data
def test_every_published_question_begins_with_words_that_end_an_answer(shared_data: Path) -> None:
    setting = open_benchmark("mgsm", shared_data / "mgsm").setting(Ask.parse("mgsm/cot"))
    for item in asked(shared_data / "mgsm", "mgsm/cot").items:
        assert all(text.startswith(setting.stop) for text in (*item.prompt.shots, item.prompt.question)), item.key
        assert not any(stop in shot[1:] for shot in item.prompt.shots for stop in setting.stop), item.key


@pytest.mark.data
def test_the_word_for_a_direct_answer_is_one_of_the_language_s_exemplars(shared_data: Path) -> None:
    record = json.loads((shared_data / "mgsm" / "exemplars.json").read_text())
    for item in asked(shared_data / "mgsm", "mgsm/direct").items[::250]:
        word = item.prompt.question.rpartition("\n")[2].rstrip(" :：").lower()
        own = " ".join(shot["a"] for shot in record["MGSM_EXEMPLARS"][item.subtask].values()).lower()
        assert word in own, item.subtask

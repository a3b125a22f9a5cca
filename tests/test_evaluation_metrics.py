"""Metrics: right answers count in any script, and figures of English are those of ROUGE itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from flanscale.evaluation.metrics import exact_match, rouge_l
from flanscale.evaluation.scripts import OTHER_SCRIPTS, has_other_words, words
from flanscale.tasks.niv2 import Niv2


@cache
def rouge_itself() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=True)


def of_rouge_itself(prediction: str, reference: str) -> float:
    measure: float = rouge_itself().score(reference, prediction)["rougeL"].fmeasure
    return 100.0 * measure


def all_words(text: str) -> list[str]:
    return [word for run in OTHER_SCRIPTS.findall(text) for word in words(run)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-5", "5"), ("1e-5", "1e5"), ("2.5", "25"), (".5", "5"), ("3/4", "34"), ("10:30", "1030"), ("2 + 3", "2 3"),
        ("2-3", "2+3"),
        ("1,2", "12"), ("*", ""), ("*", "+"), ("<", ">"), ("...", ""), ("3, -8", "3, 8"), ("-.5", ".5"), ("2**3", "23"),
        ("-$5", "$5"), ("2010-05-06", "20100506"), ("x is -1", "x is 1"), ("(-5)", "5"),
        ("<=3", ">=3"), ("<=3", "3"), ("< 3", "<= 3"), ("<-3", "<3"), ("!= 3", "3"), ("x > y", "x < y"), ("x<5", "x>5"),
        ("x >= y", "x y"), ("x != y", "x = y"), ("<$5", "$5"),
    ],
)  # fmt: skip
def test_exact_match_keeps_what_is_part_of_a_number_a_comparison_or_the_whole_answer(one: str, other: str) -> None:
    assert exact_match(one, [other]) == exact_match(other, [one]) == 0.0
    assert exact_match(one, [one]) == exact_match(f"  {one} ", [one]) == 100.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000", "1000"), ("12,345,678.", "12345678"), ("$5", "5"), ("5%", "5"), ("(5).", "5"), ("5.", "5"),
        ("-5.", "-5"), ("−5", "-5"), ("-$5", "-5"), ("**5**", "5"), ("+5", "5"), ("1, 2", "1 2"), ("1,2", "1, 2"),
        ("covid-19", "COVID19"), ("well-known", "wellknown"), ("(B)", "b"), ("- yes", "yes"), ("No. 5", "no 5"),
        ("it's 2.5!", "its 2.5"), ("a/b", "ab"), ("see...5", "see5"),
        ("<= 3", "<=3"), ("x>5", "x > 5"), ("a -> b", "a b"), ("->5", "5"), ("<b>yes</b>", "byesb"), ("> yes", "yes"),
        ("The answer: 7", "the answer 7"), ("'*'-free", "free"),
    ],
)  # fmt: skip
def test_exact_match_still_drops_what_says_little(one: str, other: str) -> None:
    assert exact_match(one, [other]) == exact_match(other, [one]) == 100.0


def test_exact_match_ignores_case_punctuation_and_spacing_alone() -> None:
    assert exact_match(" The  Answer. ", ["no", "the answer"]) == 100.0
    assert exact_match("the answers", ["the answer"]) == 0.0
    assert exact_match("", ["the answer"]) == 0.0


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence_with_stems() -> None:
    # LCS of (the cat sat) and (the cats are sitting) after stemming: the cat = 2; P = 2/3, R = 2/4.
    assert rouge_l("the cat sat", ["the cats are sitting"]) == pytest.approx(100 * 2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert rouge_l("a dog", ["nothing here", "a dog"]) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("вчера шёл дождь", "вчера шёл дождь", 100.0),
        ("вчера шёл снег", "вчера шёл дождь", 200 / 3),
        ("कल बारिश हुई।", "कल बारिश हुई", 100.0),
        ("昨天下雪", "昨天下雨。", 75.0),
        ("เมื่อวานฝนตก", "เมื่อวานฝนตก", 100.0),
        ("я учу Python", "я учу python!", 100.0),
        ("دیروز باران", "یک روز", 0.0),
        ("yesterday", "вчера", 0.0),
        ("", "вчера", 0.0),
    ],
)
def test_rouge_l_measures_answers_in_any_script(prediction: str, reference: str, score: float) -> None:
    assert rouge_l(prediction, [reference]) == pytest.approx(score)


@pytest.mark.parametrize("answer", ["*", "🙂", "", "¿?"])
def test_an_answer_without_words_is_right_where_it_is_the_same(answer: str) -> None:
    assert rouge_l(answer, [answer]) == rouge_l(f" {answer}", [answer]) == 100.0
    assert rouge_l("+", [answer]) == rouge_l("yes", [answer]) == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Мама мыла раму.", ["мама", "мыла", "раму"]),
        ("क्या हुआ? १२ दिन।", ["क्या", "हुआ", "१२", "दिन"]),
        ("我说：“好”。", ["我", "说", "好"]),
        ("ひらがな、カタカナー", list("ひらがなカタカナー")),
        ("〇時", ["〇", "時"]),
        ("กินน้ำ", ["กิ", "น", "น้", "ำ"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("می‌خواهم", ["میخواهم"]),
        ("и\u0306", ["й"]),
        ("за\u0301мок", ["за\u0301мок"]),
        ("ΟΔΟΣ", ["οδος"]),
        ("用Python写", ["用", "写"]),
        ("café, naïve – 5 µm², “ℝ” 𝑥 🙂", []),
    ],
)
def test_words_of_other_scripts_are_letters_and_digits_with_their_marks(text: str, expected: list[str]) -> None:
    assert all_words(text) == expected
    assert has_other_words(text) == bool(expected)


@given(*[st.text(st.characters(max_codepoint=0x24F), max_size=30)] * 2)
def test_texts_of_latin_letters_have_the_words_that_rouge_finds_in_them(prediction: str, reference: str) -> None:
    expected = of_rouge_itself(prediction, reference)
    if of_rouge_itself(reference, reference):
        assert rouge_l(prediction, [reference]) == expected


@given(st.text(max_size=30))
def test_every_text_is_its_own_best_answer(text: str) -> None:
    assert rouge_l(text, [text]) == exact_match(text, [text]) == 100.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("是。", "是"), ("«Да»!", "да"), ("हाँ।", "हाँ"), ("؟نعم", "نعم"), ("й", "и\u0306"), ("نمی‌دانم", "نمیدانم"),
        ("cafe\u0301", "café"), ("５ 人。", "５ 人"),
    ],
)  # fmt: skip
def test_exact_match_drops_the_punctuation_of_every_script(one: str, other: str) -> None:
    assert exact_match(one, [other]) == exact_match(other, [one]) == 100.0


@pytest.mark.parametrize(("one", "other"), [("कि", "की"), ("٢٫٥ متر", "٢٥ متر"), ("“yes”", "yes"), ("café", "cafe")])
def test_exact_match_keeps_marks_numbers_and_what_english_kept(one: str, other: str) -> None:
    assert exact_match(one, [other]) == exact_match(other, [one]) == 0.0


@pytest.mark.data
@pytest.mark.parametrize("split", ["default", "xlingual"])
def test_every_official_reference_is_its_own_best_answer(shared_data: Path, split: str) -> None:
    collection = Niv2(shared_data / "niv2", split, 100)
    references = {
        reference
        for name in collection.held_out
        for example in collection.task(name).examples
        for reference in example.references
    }
    assert len(references) > 300
    assert [text for text in references if rouge_l(text, [text]) < 100 or exact_match(text, [text]) < 100] == []


@pytest.mark.data
def test_official_english_answers_score_what_rouge_itself_gives_them(shared_data: Path) -> None:
    collection = Niv2(shared_data / "niv2", "default", 20)
    for name in collection.held_out:
        examples = collection.task(name).examples
        for example, other in zip(examples, [*examples[1:], examples[0]], strict=True):
            for prediction in (other.target, example.target[: len(example.target) // 2]):
                expected = max(of_rouge_itself(prediction, reference) for reference in example.references)
                assert rouge_l(prediction, example.references) == expected

"""The number that a text ends in: the last one, in one form, whatever language and script it is written in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanscale.evaluation.extraction import before
from flanscale.evaluation.metrics import METRICS
from flanscale.evaluation.numbers import last_number


@pytest.mark.parametrize("text", ["18", "18.", "18.00", "$18", "18%", "+18", "018", "is 18, I think.", "18!", "**18**"])
def test_what_surrounds_a_number_does_not_matter(text: str) -> None:
    assert last_number(text) == last_number(text, decimal_comma=True) == "18"


@pytest.mark.parametrize(
    "text",
    ["১৮", "౧౮", "๑๘", "१८", "١٨", "۱۸", "１８", "答えは18です。", "答案是18。", "คำตอบคือ๑๘ลูก", "উত্তর হল ১৮।", "18టి"],
)
def test_digits_of_every_script_count_and_letters_may_touch_them(text: str) -> None:
    assert last_number(text) == "18"


@pytest.mark.parametrize("text", ["", "eleven", "no answer.", "x²", "十一", "-", "$"])
def test_a_text_without_digits_has_no_number_rather_than_nought(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("5 + 6 = 11", "11"), ("first 3, then 4; 7", "7"), ("12 of 30 left", "30"), ("1,2,3", "3"), ("5/6/2020", "2020")],
)
def test_the_last_number_counts(text: str, number: str) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3.5", "3.5"), ("0.50", "0.5"), (".5", "0.5"), ("$2.50.", "2.5"), ("٣٫٥", "3.5"), ("３．５", "3.5"),
        ("1.000", "1"), ("12345.678", "12345.678"), ("1.5e3", "1500"), ("1e+06", "1000000"), ("12e-1", "1.2"),
    ],
)  # fmt: skip
def test_decimals_are_kept(text: str, number: str) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    "text", ["-5", "−5", "－5", "is -5.", "= −5", "-$5", "$-5", "(-5)", "答案是-5", "คือ-5", "-5.0"]
)
def test_a_minus_is_kept(text: str) -> None:
    assert last_number(text) == "-5"


@pytest.mark.parametrize("text", ["8-5", "8 - 5", "x-5", "COVID-5", "(8)-5", "Ответ — 5", "3–5", "– 5", "ответ-5"])
def test_a_subtraction_a_dash_and_a_hyphen_are_no_sign(text: str) -> None:
    assert last_number(text) == "5"


def test_nought_has_no_sign() -> None:
    assert last_number("-0.0") == last_number("0") == "0"


@pytest.mark.parametrize(
    "text",
    ["1,000", "1'000", "1’000", "1\u00a0000", "1\u202f000", "1\u2009000", "১,০০০", "１，０００", "١٬٠٠٠", "$1,000.00"],
)
def test_separators_of_thousands_go_in_every_language(text: str) -> None:
    assert last_number(text) == last_number(text, decimal_comma=True) == "1000"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234,567.8", "1234567.8"), ("1,00,000", "100000"), ("১২,৩৪,৫৬৭", "1234567"), ("1.234.567", "1234567"),
        ("12,3456", "3456"), ("0,125", "125"), ("2, 500", "500"), ("1\u202f000,000", "0"),
    ],
)  # fmt: skip
def test_groups_are_of_three_digits_behind_a_number_or_as_india_writes(text: str, number: str) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.000", "1000"), ("80 000", "80000"), ("80.000,50 Euro", "80000.5"), ("1 234 567,8", "1234567.8"),
        ("3,5", "3.5"), ("3.5", "3.5"), ("3,50 €", "3.5"), ("0,125", "0.125"), ("0.125", "0.125"), ("-2,5", "-2.5"),
        ("5,600", "5600"), ("Am 12.05.2024", "2024"), ("5 + 6 = 11.", "11"), ("Ответ — 1\u00a0250.", "1250"),
    ],
)  # fmt: skip
def test_a_decimal_comma_and_its_thousands_are_read_where_the_language_has_them(text: str, number: str) -> None:
    assert last_number(text, decimal_comma=True) == number


def test_a_space_parts_numbers_where_the_language_has_a_decimal_point() -> None:
    assert last_number("in 5 100 m") == "100"


@pytest.mark.parametrize(("text", "number"), [("1/2", "1/2"), ("½ is 1/2.", "1/2"), ("-১/২", "-1/2"), ("36/2", "36/2")])
def test_a_fraction_is_one_number_and_not_worked_out(text: str, number: str) -> None:
    assert last_number(text) == number


def test_a_number_that_goes_on_for_ever_is_a_wrong_answer_and_no_error() -> None:
    assert last_number("9" * 20_000) == "9" * 20_000
    assert last_number("1e9999") == "9999"


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", "is {:,}.", "${:,}.00", "{}.0 "]), st.booleans())
def test_every_integer_is_itself_however_it_is_written(number: int, form: str, decimal_comma: bool) -> None:
    assert last_number(form.format(number), decimal_comma=decimal_comma) == str(number)


@given(st.text(), st.booleans())
def test_what_was_read_is_read_again_as_the_same_number(text: str, decimal_comma: bool) -> None:
    number = last_number(text, decimal_comma=decimal_comma)
    assert number is None or last_number(number) == number


def test_a_text_ends_before_the_first_of_the_stops() -> None:
    assert before("is 5. Q: 7? A: 8\n", ("\n", "Q:")) == "is 5. "
    assert before("is 5.", ("\n", "Q:")) == "is 5."


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Nile", "nile"), ("24 October, 1984", "24 october 1984"), ("১৯৮৪।", "১৯৮৪"), ("«Нева»", "Нева"),
        ("القاهرة،", "القاهرة"), ("cafe\u0301", "café"), ("  two   words ", "two words"), ("1832—1833", "18321833"),
    ],
)  # fmt: skip
def test_case_punctuation_of_any_script_english_articles_and_spaces_do_not_matter_to_qa(one: str, other: str) -> None:
    for metric in ("qa_exact", "qa_f1"):
        assert METRICS[metric](one, ["no", other]) == METRICS[metric](other, [one]) == 100.0


@pytest.mark.parametrize(
    ("one", "other"), [("", "Nile"), ("A", "The"), ("...", "?"), ("Blue Nile", "Nile"), ("Wien", "Vienna"), ("", "A")]
)
def test_other_answers_are_not_exact_even_where_nothing_is_left_of_both(one: str, other: str) -> None:
    assert METRICS["qa_exact"](one, [other]) == METRICS["qa_exact"](other, [one]) == 0.0


def test_qa_f1_is_the_harmonic_mean_of_the_shares_of_shared_words_with_the_best_reference() -> None:
    # (big blue nile) and (blue nile river valley) share 2 words: precision 2/3, recall 2/4.
    expected = 100 * 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)
    assert METRICS["qa_f1"]("the big Blue Nile", ["a river", "Blue Nile river valley"]) == pytest.approx(expected)
    assert METRICS["qa_f1"]("no no no", ["no"]) == pytest.approx(50.0)
    assert METRICS["qa_f1"]("Volga", ["Blue Nile"]) == METRICS["qa_f1"]("", ["Nile"]) == 0.0


def test_nothing_shares_no_words_with_nothing() -> None:
    assert METRICS["qa_f1"]("", [""]) == 0.0

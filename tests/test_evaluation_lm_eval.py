"""lm-evaluation-harness asks any of our models, and gets what its own backends would give it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from listening import Listening

from flanscale.errors import ConfigError, NonFiniteLogits
from flanscale.evaluation.lm_eval_adapter import (
    Continued,
    continuations,
    evaluate_with_harness,
    loglikelihoods,
    rolling_loglikelihoods,
)
from flanscale.evaluation.protocol import Choice, Question, Sampling


def asked(*pairs: tuple[str, str], item: str = "a/0") -> list[Continued]:
    return [Continued(context, text, item) for context, text in pairs]


def how(**wanted: Any) -> tuple[int, tuple[str, ...], Sampling]:
    """In which way a model is asked to write where a task wants that."""
    model = Listening()
    continuations(model, [("Q", wanted)], seed=7)
    ((_, limit, stop, sampling),) = model.written
    return limit, stop, sampling


# --- log-likelihoods --------------------------------------------------------------------------------------------------


def test_continuations_of_one_context_in_one_item_are_options_of_one_prompt() -> None:
    model = Listening()
    pairs = [("Q1", " yes"), ("Q2", " no!"), ("Q1", " no!"), ("Q2", " yes")]
    found = loglikelihoods(model, asked(*pairs))
    assert model.choices == [Choice("Q1", (" yes", " no!")), Choice("Q2", (" no!", " yes"))]
    assert found == [(-3.0, False), (-3.0, True), (-3.0, True), (-3.0, False)]


def test_each_request_gets_its_own_answer_whatever_comes_first() -> None:
    model = Listening()
    pairs = [("longer context", " a"), ("Q", " ab"), ("Q", " abc!"), ("longer context", " a")]
    answers = [(-14 - 0.25 - 0.5, False), (-1 - 0.375 - 0.5, False), (-1 - 0.625 - 0.5, True)]
    assert loglikelihoods(model, asked(*pairs)) == [*answers, answers[0]]
    assert [choice.options for choice in model.choices] == [(" a",), (" ab", " abc!")]


def test_items_that_share_a_context_are_asked_each_for_itself() -> None:
    """So that the options of thousands of items behind one neutral prompt do not become one question."""
    model = Listening()
    loglikelihoods(model, [*asked(("", "x"), ("", "y")), *asked(("", "z"), item="a/1")])
    assert model.choices == [Choice("", ("x", "y")), Choice("", ("z",))]


def test_white_space_at_the_end_of_a_context_belongs_to_the_continuation() -> None:
    model = Listening()
    loglikelihoods(model, asked(("Answer: ", "A"), ("Answer:", " B"), ("step by step.\n", "So"), (" \n", "x")))
    assert model.choices == [
        Choice("Answer:", (" A", " B")),
        Choice("step by step.", ("\nSo",)),
        Choice("", (" \nx",)),
    ]


def test_an_empty_continuation_is_certain_and_needs_no_model() -> None:
    model = Listening()
    assert loglikelihoods(model, asked(("Q", ""))) == [(0.0, True)]
    assert rolling_loglikelihoods(model, [""]) == [0.0]
    assert model.choices == []


def test_a_log_likelihood_that_is_no_number_ends_it_and_names_the_context() -> None:
    with pytest.raises(NonFiniteLogits, match=r"not finite behind '.{71}the end Q': its parameters have diverged"):
        loglikelihoods(Listening(lost="Q"), asked(("P", " a"), (100 * "x" + "the end Q", " a")))


def test_a_rolling_log_likelihood_is_of_a_text_behind_nothing() -> None:
    model = Listening()
    assert rolling_loglikelihoods(model, ["One text.", " Another one.\n"]) == [-9 / 8 - 0.5, -14 / 8 - 0.5]
    assert model.choices == [Choice("", ("One text.",)), Choice("", (" Another one.\n",))]


def test_progress_is_told_of_every_request() -> None:
    told: list[int] = []
    loglikelihoods(Listening(), asked(("Q", " a"), ("Q", " a"), ("Q", ""), ("R", " a")), told.append)
    assert sum(told) == 4
    continuations(Listening(), [("Q", {}), ("Q", {}), ("R", {"until": "x"})], 0, told.append)
    assert sum(told) == 4 + 3


# --- written answers --------------------------------------------------------------------------------------------------


def test_answers_end_at_the_tasks_stop_texts_or_after_its_number_of_tokens() -> None:
    assert how(until=["\n\n", "", "Q:"], max_gen_toks=32)[:2] == (32, ("\n\n", "Q:"))
    assert how(until="\n")[:2] == (256, ("\n",))
    assert how(until=None)[:2] == how()[:2] == (256, ())
    assert how(max_tokens=5, max_new_tokens=7)[0] == 7
    assert how(max_new_tokens=7, max_gen_toks=9)[0] == 9


@pytest.mark.parametrize(
    ("wanted", "sampling"),
    [
        ({}, Sampling(seed=7)),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.5}, Sampling(seed=7)),
        ({"do_sample": True, "temperature": 0.0}, Sampling(seed=7)),
        ({"do_sample": True}, Sampling(1.0, seed=7)),
        ({"temperature": 0.7}, Sampling(0.7, seed=7)),
        ({"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 0.95}, Sampling(0.7, 40, 0.95, 7)),
        ({"temperature": 1, "top_k": 0}, Sampling(1.0, None, 1.0, 7)),
    ],
)
def test_tokens_are_drawn_where_a_task_says_so_and_else_the_most_likely_are_taken(
    wanted: dict[str, Any], sampling: Sampling
) -> None:
    assert how(**wanted)[2] == sampling


def test_repeats_are_samples_of_one_question_drawn_by_its_context() -> None:
    model, drawn = Listening(), {"do_sample": True, "temperature": 0.7, "until": ["."]}
    requests: list[tuple[str, Mapping[str, Any]]] = [("Q", drawn), ("R", drawn), ("Q", dict(drawn)), ("Q", drawn)]
    assert continuations(model, requests, seed=7) == ["Q #0", "R #0", "Q #1", "Q #2"]
    assert [question for question, *_ in model.written] == [Question("Q", "Q", 3), Question("R", "R", 1)]


def test_a_repeat_of_what_is_not_drawn_is_the_same_text_written_once() -> None:
    model = Listening()
    assert continuations(model, [("Q", {}), ("Q", {})], seed=7) == ["Q #0", "Q #0"]
    assert [question.samples for question, *_ in model.written] == [1]


def test_tasks_that_want_other_ways_of_writing_are_asked_apart() -> None:
    model = Listening()
    found = continuations(model, [("Q", {"until": "."}), ("R", {"until": "!"}), ("S", {"until": ["."]})], seed=7)
    assert found == ["Q #0", "R #0", "S #0"]
    assert [(question.prompt, stop) for question, _, stop, _ in model.written] == [
        ("Q", (".",)), ("S", (".",)), ("R", ("!",)),
    ]  # fmt: skip


def test_what_is_not_done_is_refused_rather_than_left_out() -> None:
    with pytest.raises(ConfigError, match=r"generation_kwargs: num_beams=4 is not done here; what is done: until, "):
        how(num_beams=4)
    assert how(num_beams=1) == how()


def test_more_new_tokens_than_the_model_has_room_for_are_refused() -> None:
    model = Listening(context=100)
    assert continuations(model, [("Q", {"max_gen_toks": 99})], seed=0) == ["Q #0"]
    with pytest.raises(ConfigError, match=r"max_gen_toks=100: .* no room .* generation=\{'max_gen_toks': …\}"):
        continuations(model, [("Q", {"max_gen_toks": 100})], seed=0)


# --- the harness itself -----------------------------------------------------------------------------------------------


def test_without_the_harness_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match=r"pip install 'flanscale\[lm-eval\]'"):
        evaluate_with_harness(Listening(), ["mmlu"])


def test_nothing_of_the_harness_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, flanscale.evaluation.lm_eval_adapter; print([m for m in sys.modules if m.startswith('lm_eval')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

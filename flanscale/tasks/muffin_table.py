"""Which of Muffin's datasets are on the Hugging Face Hub as Parquet, and how do their columns become FLAN's fields?

One table: repository, configuration and split, and where in a row each field of FLAN's templates is. FLAN's fields:
google-research/FLAN, `flan/v2/task_configs_v1.py` (whose columns are those of TensorFlow Datasets); the Hub's columns
and the order of its class numbers are those of the datasets' cards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flanscale.tasks import muffin_rows as rows
from flanscale.tasks.muffin_hub import HubForm

_PARA_CRAWL_SLICE = 30_200  # FLAN's true_case, fix_punct and word_segment are successive slices of one dataset


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _glue(
    config: str, instruction: str, shown: str, names: tuple[str, str], labels: tuple[str, ...], **more: Any
) -> HubForm:
    fields = _same(*names) | {"answer": "label"}
    return HubForm("nyu-mll/glue", config, instruction, shown, fields, labels=labels, **more)


_ENTAILED = ("yes", "it is not possible to tell", "no")
_RELATION = "Decide how the hypothesis relates to the premise."
_PREMISE = "Premise: {premise}\nHypothesis: {hypothesis}"
_TWO = "First sentence: {sentence1}\nSecond sentence: {sentence2}"
_SUMMARISE = "Summarise the text."
_READING = "{context}\n\nQuestion: {question}"


def _anli(round_: str) -> HubForm:
    fields = {"context": "premise", "hypothesis": "hypothesis", "answer": "label"}
    labels = ("Yes", "It's impossible to say", "No")
    shown = "Premise: {context}\nHypothesis: {hypothesis}"
    return HubForm("facebook/anli", "plain_text", _RELATION, shown, fields, labels=labels, split=f"train_{round_}")


def _arc(config: str) -> HubForm:
    return HubForm(
        "allenai/ai2_arc",
        config,
        "Answer the question about the natural world.",
        "{question}",
        {"question": "question", "answer": "label"},
        options=("options",),
        reshape=lambda row: rows.lettered(row, "question"),
        reads=("question", "choices", "answerKey"),
    )


def _translation(repository: str, config: str, pair: tuple[str, str], names: tuple[str, str]) -> HubForm:
    return HubForm(
        repository,
        config,
        f"Translate from {names[0]} to {names[1]}.",
        "{sent1}",
        _same("lang1", "lang2", "sent1", "sent2"),
        answer="sent2",
        reshape=rows.translated(*pair, names),
        reads=("translation",),
        first_file=True,
    )


def _wmt16(code: str, name: str) -> HubForm:
    return _translation("wmt/wmt16", f"{code}-en", ("en", code), ("English", name))


def _mending(instruction: str, field: str, broken: Callable[[str], str], number: int) -> HubForm:
    return HubForm(
        "ParaCrawl/para_crawl",
        "enda",
        instruction,
        f"{{{field}}}",
        _same(field, "answer"),
        reshape=rows.mended(broken, field),
        reads=("translation",),
        first_row=number * _PARA_CRAWL_SLICE,
        first_file=True,
    )


def _squad_form(repository: str, config: str, instruction: str) -> HubForm:
    fields = _same("title", "context", "question") | {"answer": "answers"}
    reads = ("title", "context", "question", "answers")
    return HubForm(repository, config, instruction, _READING, fields, reshape=rows.squad, reads=reads)


HUB_FORMS: dict[str, HubForm] = {
    "aeslc": HubForm(
        "Yale-LILY/aeslc",
        "default",
        "Write the subject line of the email.",
        "{body}",
        _same("body", "subject"),
        answer="subject",
        reshape=rows.aeslc,
        reads=("email_body", "subject_line"),
    ),
    "anli_r1": _anli("r1"),
    "anli_r2": _anli("r2"),
    "anli_r3": _anli("r3"),
    "arc_challenge": _arc("ARC-Challenge"),
    "arc_easy": _arc("ARC-Easy"),
    "cnn_dailymail": HubForm(
        "abisee/cnn_dailymail",
        "3.0.0",
        "Write the highlights of the news article.",
        "{text}",
        _same("text", "highlights"),
        answer="highlights",
        reshape=rows.cnn_dailymail,
        reads=("article", "highlights"),
        first_file=True,
    ),
    "common_gen": HubForm(
        "allenai/common_gen",
        "default",
        "Write a sentence about something common that holds all of the words.",
        "{concepts}",
        _same("concepts", "concepts_newline", "target"),
        answer="target",
        reshape=rows.common_gen,
        reads=("concepts", "target"),
    ),
    "coqa": HubForm(
        "stanfordnlp/coqa",
        "default",
        "Answer each of the numbered questions about the text.",
        "{text}\n\n{numbered_questions}",
        _same("text", "numbered_questions", "numbered_answers"),
        answer="numbered_answers",
        reshape=rows.coqa,
        reads=("story", "questions", "answers"),
    ),
    "cosmos_qa": HubForm(
        "allenai/cosmos_qa",
        "default",
        "Answer the question about the story with what its reader would expect.",
        _READING,
        _same("context", "question") | {"answer": "label"},
        options=("answer0", "answer1", "answer2", "answer3"),
    ),
    "definite_pronoun_resolution": HubForm(
        "community-datasets/definite_pronoun_resolution",
        "plain_text",
        "Say whom or what the pronoun means.",
        "{sentence}\nPronoun: {pronoun}",
        _same("sentence", "pronoun") | {"answer": "label"},
        options=("candidates",),
    ),
    "drop": HubForm(
        "ucinlp/drop",
        "default",
        "Answer the question about the passage; it may need counting or arithmetic.",
        _READING,
        {"context": "passage", "question": "question", "answer": "answer"},
        reshape=rows.drop,
        reads=("passage", "question", "answers_spans"),
    ),
    "fix_punct": _mending(
        "Put in the punctuation that is missing.",
        "no_punct",
        lambda text: re.sub(r"[^\w\s]", "", text, flags=re.ASCII),
        1,
    ),
    "gigaword": HubForm(
        "Harvard/gigaword",
        "default",
        "Write a headline for the text.",
        "{text}",
        {"text": "document", "summary": "summary"},
        answer="summary",
        reshape=rows.gigaword,
        reads=("document", "summary"),
        first_file=True,
    ),
    "glue_mrpc": _glue(
        "mrpc", "Decide whether the two sentences mean the same.", _TWO, ("sentence1", "sentence2"), ("no", "yes")
    ),
    "hellaswag": HubForm(
        "Rowan/hellaswag",
        "default",
        "Pick the most plausible continuation.",
        "{context}",
        _same("context") | {"answer": "label"},
        options=("options",),
        reshape=rows.hellaswag,
        reads=("ctx", "endings", "label"),
    ),
    "lambada": HubForm(
        "cimec/lambada",
        "plain_text",
        "Say the word that comes next.",
        "{sentence}",
        _same("sentence", "answer"),
        reshape=rows.lambada,
        reads=("text",),
        split="validation",  # what TensorFlow Datasets calls train; the Hub's train are whole novels
    ),
    "math_dataset": HubForm(
        "deepmind/math_dataset",
        "algebra__linear_1d",
        "Solve the equation.",
        "{question}",
        _same("question", "answer"),
        reshape=rows.byte_strings,
        reads=("question", "answer"),
    ),
    "mnli_mismatched": _glue("mnli", _RELATION, _PREMISE, ("premise", "hypothesis"), _ENTAILED),
    "multi_news": HubForm(
        "alexfabbri/multi_news",
        "default",
        "Summarise the articles, which tell of one event.",
        "{text}",
        {"text": "document", "summary": "summary"},
        answer="summary",
    ),
    "natural_questions": HubForm(
        "google-research-datasets/nq_open",
        "nq_open",
        "Answer the question from what you know.",
        "{question}",
        _same("question", "answer"),
        reshape=rows.natural_questions,
        reads=("question", "answer"),
    ),
    "openbookqa": HubForm(
        "allenai/openbookqa",
        "additional",
        "Answer the question with the help of the fact.",
        "Fact: {fact}\n{question}",
        {"fact": "fact1", "question": "question", "answer": "label"},
        options=("options",),
        reshape=lambda row: rows.lettered(row, "question_stem"),
        reads=("question_stem", "choices", "answerKey", "fact1"),
    ),
    "para_crawl_enes": _translation("ParaCrawl/para_crawl", "enes", ("en", "es"), ("English", "Spanish")),
    "paws_wiki": HubForm(
        "google-research-datasets/paws",
        "labeled_final",
        "Decide whether the two sentences mean the same.",
        _TWO,
        _same("sentence1", "sentence2") | {"answer": "label"},
        labels=("no", "yes"),
    ),
    "piqa": HubForm(
        "ybisk/piqa",
        "plain_text",
        "Pick the way that reaches the goal.",
        "{goal}",
        _same("goal") | {"answer": "label"},
        options=("sol1", "sol2"),
    ),
    "qnli": _glue(
        "qnli",
        "Decide whether the sentence answers the question.",
        "Question: {question}\nSentence: {sentence}",
        ("question", "sentence"),
        ("yes", "no"),
    ),
    "quac": HubForm(
        "allenai/quac",
        "plain_text",
        "Answer the question about the article's section.",
        "{title}\n{background}\n\n{context}\n\nQuestion: {question}",
        _same("title", "background", "context", "question", "answer"),
        reshape=rows.quac,
        reads=("wikipedia_page_title", "background", "context", "questions", "orig_answers"),
    ),
    "record": HubForm(
        "aps/super_glue",
        "record",
        "Finish the sentence with what the passage says.",
        "{passage}\n\n{query}",
        _same("passage", "query", "options_str") | {"answer": "answers"},
        reshape=rows.record,
        reads=("passage", "query", "entities", "answers"),
    ),
    "samsum": HubForm(
        "knkarthick/samsum",
        "default",
        "Summarise the chat.",
        "{dialogue}",
        _same("dialogue", "summary"),
        answer="summary",
        reshape=rows.samsum,
        reads=("dialogue", "summary"),
    ),
    "sentiment140": HubForm(
        "stanfordnlp/sentiment140",
        "sentiment140",
        "Judge the mood of the tweet.",
        "{text}",
        _same("text") | {"answer": "label"},
        labels=("negative", "positive"),
        reshape=rows.sentiment140,
        reads=("text", "sentiment"),
    ),
    "snli": HubForm(
        "stanfordnlp/snli",
        "plain_text",
        _RELATION,
        _PREMISE,
        _same("premise", "hypothesis") | {"answer": "label"},
        labels=_ENTAILED,
        reshape=rows.labelled,
        reads=("premise", "hypothesis", "label"),
    ),
    "squad_v1": _squad_form("rajpurkar/squad", "plain_text", "Answer the question with words of the passage."),
    "squad_v2": _squad_form(
        "rajpurkar/squad_v2",
        "squad_v2",
        "Answer the question with words of the passage, or say that it is unanswerable.",
    ),
    "stsb": _glue(
        "stsb",
        "Say on a scale from 0 to 5 how much the two sentences mean the same.",
        _TWO,
        ("sentence1", "sentence2"),
        tuple("012345"),
        reshape=rows.stsb,
        reads=("sentence1", "sentence2", "label"),
    ),
    "trec": HubForm(
        "CogComp/trec",
        "default",
        "Say what kind of thing the question asks for.",
        "{text}",
        {"text": "text", "answer": "coarse_label"},
        labels=("abbreviation", "entity", "description", "human", "location", "numeric"),
    ),
    "trivia_qa": HubForm(
        "mandarjoshi/trivia_qa",
        "rc.nocontext",
        "Answer the question from what you know.",
        "{question}",
        {"question": "question", "answer": "answers"},
        reshape=rows.trivia_qa,
        reads=("question", "answer"),
    ),
    "true_case": _mending("Put in the capital letters that are missing.", "lower", str.lower, 0),
    "web_nlg_en": HubForm(
        "GEM/web_nlg",
        "en",
        "Put the facts into words.",
        "{input_string}",
        _same("input_string", "target"),
        answer="target",
        reshape=rows.web_nlg,
        reads=("input", "target"),
    ),
    "wiki_lingua_english_en": HubForm(
        "GEM/wiki_lingua",
        "en",
        _SUMMARISE,
        "{source}",
        _same("source", "target"),
        answer="target",
    ),
    "winogrande": HubForm(
        "allenai/winogrande",
        "winogrande_xl",
        "Pick the ending that makes sense.",
        "{context}",
        _same("context") | {"answer": "label"},
        options=("options",),
        reshape=rows.winogrande,
        reads=("sentence", "option1", "option2", "answer"),
    ),
    "wmt14_enfr": _translation("wmt/wmt14", "fr-en", ("en", "fr"), ("English", "French")),
    "wmt16_translate_csen": _wmt16("cs", "Czech"),
    "wmt16_translate_deen": _wmt16("de", "German"),
    "wmt16_translate_fien": _wmt16("fi", "Finnish"),
    "wmt16_translate_roen": _wmt16("ro", "Romanian"),
    "wmt16_translate_ruen": _wmt16("ru", "Russian"),
    "wmt16_translate_tren": _wmt16("tr", "Turkish"),
    "wnli": _glue(
        "wnli", "Decide whether the second sentence follows.", _TWO, ("sentence1", "sentence2"), ("no", "yes")
    ),
    "word_segment": _mending("Put in the spaces that are missing.", "no_space", lambda text: text.replace(" ", ""), 2),
    "wsc": HubForm(
        "aps/super_glue",
        "wsc.fixed",
        "Decide whether the marked pronoun means the person or thing that is named.",
        "{context}\nPronoun: {text2}\nNamed: {text1}",
        _same("context", "text1", "text2") | {"answer": "label"},
        labels=("no", "yes"),
        reshape=rows.wsc,
        reads=("text", "span1_text", "span2_text", "span2_index", "label"),
    ),
    "xsum": HubForm(
        "EdinburghNLP/xsum",
        "default",
        "Say in one sentence what the article tells.",
        "{text}",
        {"text": "document", "summary": "summary"},
        answer="summary",
    ),
    "yelp_polarity_reviews": HubForm(
        "fancyzhx/yelp_polarity",
        "plain_text",
        "Judge whether the review is favourable.",
        "{text}",
        _same("text") | {"answer": "label"},
        labels=("negative", "positive"),
        reshape=rows.yelp,
        reads=("text", "label"),
    ),
}

_CODE = "FLAN names no public source for it and could not release it"
NOT_ON_THE_HUB: dict[str, str] = {
    "dmcc_python": "FLAN could not release what it made of DeepMind's Code Contests, nor say how",
    **dict.fromkeys(
        ("dr_repair_error_comments", "dr_repair_line_numbers", "dr_repair_no_errors", "dr_repair_plain_code"), _CODE
    ),
    "newsroom": "its authors give it to those who sign their form",
    "opinion_abstracts_idebate": "it is in TensorFlow Datasets alone, without a Parquet form",
    "opinion_abstracts_rotten_tomatoes": "it is in TensorFlow Datasets alone, without a Parquet form",
    "qrecc": "it is in TensorFlow Datasets alone, without a Parquet form by its authors",
    "story_cloze": "its authors give it to those who sign their form",
    "task_master": "FLAN could not release what it made of Taskmaster, nor say how",
    "trivia_qa_wiki_missing": "FLAN lists it by name and has no code for it",
    "unified_qa_science_inst": "it is in TensorFlow Datasets alone, without a Parquet form",
    "wiki_dialog": "it is in TensorFlow Datasets alone, without a Parquet form",
}
"""Datasets of Muffin that no command can fetch raw → why."""

"""How do rows that need more than picking their columns become flat ones? A function a dataset of Muffin.

What FLAN makes of them: google-research/FLAN, `flan/v2/task_configs_v1.py` and `task_configs.py`. A row that FLAN
filters out becomes none, one that holds several examples becomes several. A row without the columns raises KeyError,
TypeError and the like: it is a bad record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Row = dict[str, Any]


def labelled(row: Row) -> Iterator[Row]:
    """Only rows that the annotators agreed on: the others are labelled −1."""
    if row["label"] != -1:
        yield row


def lettered(row: Row, question: str) -> Iterator[Row]:
    """Alternatives with names (A, B … or 1, 2 …), of which the key names one; FLAN keeps the questions with four."""
    texts, names = row["choices"]["text"], row["choices"]["label"]
    if len(texts) == 4:
        yield {**row, "question": row[question], "options": texts, "label": names.index(row["answerKey"])}


def winogrande(row: Row) -> Iterator[Row]:
    before, after = row["sentence"].split("_", 1)
    endings = [row["option1"] + after, row["option2"] + after]
    yield {"context": before, "options": endings, "label": int(row["answer"]) - 1}


def hellaswag(row: Row) -> Iterator[Row]:
    if row["label"] in ("0", "1", "2", "3"):
        context = re.sub(r"\[.*?\]\s", "\n", re.sub(r"\[header\]\s", "", row["ctx"]))
        endings = [re.sub(r"\[.*?\]\s", "", ending) for ending in row["endings"]]
        yield {"context": context, "options": endings, "label": int(row["label"])}


def record(row: Row) -> Iterator[Row]:
    before, after = row["query"].split("@placeholder", 1)
    options = [entity + after for entity in row["entities"]]
    yield {
        "passage": row["passage"].split("\n@highlight")[0],
        "query": before,
        "options_str": "OPTIONS:\n- " + "\n- ".join(options),
        "answers": [answer + after for answer in row["answers"]],
    }


def wsc(row: Row) -> Iterator[Row]:
    """The pronoun, known by the number of its word, stands between asterisks."""
    words, at, pronoun = row["text"].split(" "), row["span2_index"], row["span2_text"]
    marked = words[at].replace(pronoun, f"*{pronoun}*", 1) if pronoun in words[at] else f"*{pronoun}*"
    context = " ".join([*words[:at], marked, *words[at + 1 :]])
    yield {"context": context, "text1": row["span1_text"], "text2": pronoun, "label": row["label"]}


def quac(row: Row) -> Iterator[Row]:
    """A dialogue holds several questions; CANNOTANSWER is taken out everywhere, and what has no answer with it."""

    def clean(text: str) -> str:
        return text.replace("CANNOTANSWER", "").strip()

    shared = {"title": row["wikipedia_page_title"], "background": row["background"], "context": row["context"]}
    for question, answer in zip(row["questions"], row["orig_answers"]["texts"], strict=True):
        flat = shared | {"question": question, "answer": answer}
        if clean(answer):
            yield {name: clean(text) for name, text in flat.items()}


def _numbered(texts: list[str]) -> str:
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, start=1))


def coqa(row: Row) -> Iterator[Row]:
    yield {
        "text": row["story"],
        "numbered_questions": _numbered(row["questions"]),
        "numbered_answers": _numbered(row["answers"]["input_text"]),
    }


def cnn_dailymail(row: Row) -> Iterator[Row]:
    article = row["article"]
    for end_of_dateline in ("2013 . ", "2014 . ", "2012 . ", ") -- "):
        article = article.split(end_of_dateline)[-1]
    yield {"text": article, "highlights": row["highlights"].replace(" .", ".").replace("\n", " ")}


def gigaword(row: Row) -> Iterator[Row]:
    if not re.search(r"UNK|#", row["document"] + row["summary"]):
        yield row


def samsum(row: Row) -> Iterator[Row]:
    """Without what stands for pictures and files."""
    yield {"dialogue": re.sub("<.*>", " ", row["dialogue"].replace("\r\n", "\n")), "summary": row["summary"]}


def aeslc(row: Row) -> Iterator[Row]:
    yield {"body": row["email_body"].replace("\n", " "), "subject": row["subject_line"].replace("\n", "")}


def common_gen(row: Row) -> Iterator[Row]:
    concepts = row["concepts"]
    yield {"concepts": ", ".join(concepts), "concepts_newline": "\n".join(concepts), "target": row["target"]}


def web_nlg(row: Row) -> Iterator[Row]:
    triples = "; ".join(row["input"]).replace("_", " ").replace(" | ", ", ")
    yield {"input_string": triples, "target": row["target"]}


def squad(row: Row) -> Iterator[Row]:
    answers = row["answers"]["text"] or ["unanswerable"]
    yield {**row, "title": row["title"].replace("_", " "), "answers": answers}


def natural_questions(row: Row) -> Iterator[Row]:
    yield {"question": f"{row['question']}?", "answer": row["answer"]}


def trivia_qa(row: Row) -> Iterator[Row]:
    answer = row["answer"]
    yield {"question": row["question"], "answers": [answer["normalized_value"], *answer["normalized_aliases"]]}


def sentiment140(row: Row) -> Iterator[Row]:
    yield {"text": row["text"], "label": int(row["sentiment"] in (3, 4))}


def yelp(row: Row) -> Iterator[Row]:
    yield {"text": row["text"].replace('\\""', '"').replace("\\n", " "), "label": row["label"]}


def stsb(row: Row) -> Iterator[Row]:
    yield {**row, "label": int(f"{row['label']:.0f}")}


def drop(row: Row) -> Iterator[Row]:
    """An answer of several spans is all of them."""
    yield {**row, "answer": ", ".join(row["answers_spans"]["spans"])}


def byte_strings(row: Row) -> Iterator[Row]:
    """The Hub's texts are those of Python's byte strings, quotes and all."""

    def bare(text: str) -> str:
        inner = re.fullmatch(r"""b(['"])(.*)\1""", text.strip(), re.DOTALL)
        return (inner[2] if inner else text).replace("\\n", "\n").strip()

    yield {"question": bare(row["question"]), "answer": bare(row["answer"])}


def lambada(row: Row) -> Iterator[Row]:
    *sentence, answer = row["text"].strip().split(" ")
    yield {"sentence": " ".join(sentence), "answer": answer}


def translated(one: str, other: str, names: tuple[str, str]) -> Callable[[Row], Iterator[Row]]:
    """Two languages of a translation, with their names in English."""

    def pair(row: Row) -> Iterator[Row]:
        both = row["translation"]
        yield {"lang1": names[0], "lang2": names[1], "sent1": both[one], "sent2": both[other]}

    return pair


def mended(broken: Callable[[str], str], name: str) -> Callable[[Row], Iterator[Row]]:
    """FLAN's exercises on the English side of a translation: mend what was taken away."""

    def english(row: Row) -> Iterator[Row]:
        text = row["translation"]["en"].strip()
        if broken(text) != text:
            yield {name: broken(text), "answer": text}

    return english

"""How does one example become input and target text? With or without exemplars × with or without rationale.

The four forms are the paper's (Chung et al. 2022, figure 3); the wordings here are the project's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flanscale.tasks.task import Example, Task

ANSWER_MARK = "the answer is"


@dataclass(frozen=True)
class Template:
    """One wording. `header` and `query` may use {instruction}, `query` uses {input}; after a space comes the answer."""

    header: str
    query: str
    separator: str
    trigger: str


@dataclass(frozen=True)
class Prompt:
    """One example as text."""

    input: str
    target: str


# Lower case with spaces round every mark: each word is one token of the words tokenizer.
PROCEDURAL = tuple(
    Template("", query, " . ", " step by step")
    for query in (
        "{instruction} : {input} =",
        "apply {instruction} to {input} :",
        "given {input} do {instruction} .",
        "question : {input} , {instruction} ? answer :",
    )
)
NATURAL = tuple(
    Template(header, query, "\n\n", " Let us reason step by step.")
    for header, query in (
        ("{instruction}\n\n", "Input: {input}\nOutput:"),
        ("Task: {instruction}\n\n", "Q: {input}\nA:"),
        ("{instruction}\n\n", "{input}\n\nAnswer:"),
    )
)
TEMPLATES: dict[str, Sequence[Template]] = {"procedural": PROCEDURAL, "niv2": NATURAL}


def render(task: Task, example: Example, *, template: int, cot: bool, exemplars: int) -> Prompt:
    """The text of one example.

    Args:
        template: which wording, modulo the number of wordings of the task's collection.
        cot: ask for the rationale, and answer with it where the example has one.
        exemplars: most worked examples shown before the query: the first of `task.exemplars` that are not the query.
    """
    wordings = TEMPLATES[task.collection]
    wording = wordings[template % len(wordings)]

    def ask(shot: Example) -> str:
        query = wording.query.format(instruction=task.instruction, input=shot.input)
        return query + wording.trigger if cot else query

    shots = [shot for shot in task.exemplars if shot.input != example.input][:exemplars]
    turns = [*(f"{ask(shot)} {_answer(shot, cot)}" for shot in shots), ask(example)]
    return Prompt(
        wording.header.format(instruction=task.instruction) + wording.separator.join(turns), _answer(example, cot)
    )


def _answer(example: Example, cot: bool) -> str:
    if cot and example.rationale is not None:
        return f"{example.rationale} {ANSWER_MARK} {example.target}"
    return example.target


def extract_answer(text: str, *, cot: bool) -> str:
    """The answer in a generated text: what follows the last answer mark; all of it where a direct answer has none.

    A rationale that never comes to its mark has no answer: the empty string.
    """
    _, mark, after = text.rpartition(ANSWER_MARK)
    if mark:
        return after.strip().split("\n", 1)[0].removesuffix(".").strip()
    return "" if cot else text.strip()


def procedural_words() -> list[str]:
    """Every word that a procedural prompt or target can hold, in a fixed order."""
    from flanscale.tasks.procedural import PRIMITIVES

    fixed = " ".join([ANSWER_MARK, *(f"{t.query} {t.separator} {t.trigger}" for t in PROCEDURAL)])
    words = fixed.format(instruction="then", input=" ".join("0123456789")).split()
    return list(dict.fromkeys([*"0123456789", ";", *PRIMITIVES, *words]))

"""How are the procedural tasks worded? Lower case and spaces round every mark, so that each word is one token.

The domains share no wording: what a model learns of the one's phrasing is no help with the other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flanscale.tasks.task import Example, Task
from flanscale.tasks.templates.answers import ANSWER_MARK, LETTERS_MARK
from flanscale.tasks.templates.form import Form
from flanscale.tasks.templates.prompt import Prompt


@dataclass(frozen=True)
class Wording:
    """One wording; after a space comes the answer. `bare` leaves the instruction out; `back` asks for the input."""

    query: str
    bare: str
    back: str


@dataclass(frozen=True)
class Domain:
    """The wordings of one domain with the words that hold them together."""

    wordings: Sequence[Wording]
    separator: str
    trigger: str
    mark: str


DIGITS = Domain(
    wordings=(
        Wording("{instruction} : {input} =", "{input} =", "{instruction} : ? = {answer} :"),
        Wording("apply {instruction} to {input} :", "{input} :", "apply {instruction} to ? is {answer} :"),
        Wording("given {input} do {instruction} .", "given {input} .", "do {instruction} , answer {answer} , given :"),
        Wording(
            "question : {input} , {instruction} ? answer :",
            "question : {input} ? answer :",
            "answer : {answer} , {instruction} . question :",
        ),
    ),
    separator=" . ",
    trigger=" step by step",
    mark=ANSWER_MARK,
)
LETTERS = Domain(
    wordings=(
        Wording("take [ {input} ] and perform {instruction} ->", "[ {input} ] ->", "[ {answer} ] <- {instruction} <-"),
        Wording("run {instruction} on < {input} > !", "< {input} > !", "undo {instruction} on < {answer} > !"),
        Wording(
            "string | {input} | through | {instruction} | result",
            "string | {input} | result",
            "result | {answer} | through | {instruction} | string",
        ),
        Wording(
            "what comes out when {input} goes in {instruction} ~",
            "what comes out when {input} goes in ~",
            "what goes in when {answer} comes out {instruction} ~",
        ),
    ),
    separator=" // ",
    trigger=" showing each stage",
    mark=LETTERS_MARK,
)
DOMAINS = {"digits": DIGITS, "letters": LETTERS}


def render_procedural(task: Task, example: Example, shots: Sequence[Example], form: Form, choice: int) -> Prompt:
    """The text of one example; a task's `dataset` names its domain, none is digits."""
    domain = DOMAINS[task.dataset or "digits"]
    wording = domain.wordings[choice % len(domain.wordings)]

    def ask(shot: Example) -> str:
        if form.inverted:
            return wording.back.format(instruction=task.instruction, answer=answer(shot))
        query = (wording.query if form.instruction else wording.bare).format(
            instruction=task.instruction, input=shot.input
        )
        return query + domain.trigger if form.cot else query

    def answer(shot: Example) -> str:
        if form.cot and shot.rationale is not None:
            return f"{shot.rationale} {domain.mark} {shot.target}"
        return shot.target

    def reply(shot: Example) -> str:
        return shot.input if form.inverted else answer(shot)

    worked = tuple(f"{ask(shot)} {reply(shot)}{domain.separator}" for shot in shots)
    return Prompt(ask(example), reply(example), shots=worked)


def procedural_words(domain: str = "digits") -> list[str]:
    """Every word that a procedural prompt or target of the domain can hold, in a fixed order."""
    from flanscale.tasks.primitives import DOMAINS as MADE_OF
    from flanscale.tasks.procedural import primitives, symbols

    words = DOMAINS[domain]
    fixed = [words.mark, *(f"{wording.query} {words.separator} {words.trigger}" for wording in words.wordings)]
    # Later wordings come last, so that the ids of earlier words stay what they were.
    fixed += [text for wording in words.wordings for text in (wording.bare, wording.back)]
    filled = " ".join(fixed).format(instruction=MADE_OF[domain].then, input="", answer="").split()
    return list(dict.fromkeys([*symbols(domain), ";", *primitives(domain), *filled]))

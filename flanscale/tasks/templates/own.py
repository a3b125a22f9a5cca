"""How does an example read in the project's own words? The texts stand in `own.toml`; here they are put together."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from flanscale.errors import DataError
from flanscale.tasks.task import Example, Task
from flanscale.tasks.templates.answers import reasoned
from flanscale.tasks.templates.form import CONCLUSION, DELIMITERS, TRIGGER, Form, draw
from flanscale.tasks.templates.options import OptionStyles
from flanscale.tasks.templates.prompt import Prompt
from flanscale.tasks.templates.text import Ask, Text

_SPEAKS_OF_OPTIONS = re.compile(r"\b(option|choice|choose|pick)", re.IGNORECASE)


@dataclass(frozen=True)
class Delimiters:
    """What stands before a question, between question and answer, before an answer, and between examples."""

    question: str
    between: str
    answer: str
    separator: str


@dataclass(frozen=True)
class OwnTexts:
    """`own.toml`, ready to be filled."""

    styles: Mapping[str, Sequence[Ask]]
    headers: Sequence[Text]
    inverted_headers: Sequence[Ask]
    delimiters: Sequence[Delimiters]
    plain_delimiters: Sequence[Delimiters]
    """Those without prefixes: for prompts that are shown as they are."""
    options: OptionStyles
    inverted: Sequence[Ask]
    inverted_cot: Sequence[Ask]
    conclusions: Sequence[Text]
    triggers: Sequence[str]
    pairs: Mapping[str, Sequence[tuple[str, str]]]
    """Chain-of-thought dataset → (instruction, trigger), each possibly empty."""
    pairs_without_options: Mapping[str, Sequence[tuple[str, str]]]
    """Those that speak of no options: for questions that show none."""


def own_source() -> bytes:
    """The texts as they stand in the file: what their fingerprint is over."""
    return files(__package__).joinpath("own.toml").read_bytes()


@cache
def own_texts() -> OwnTexts:
    """The project's wordings."""
    read: dict[str, Any] = tomllib.loads(own_source().decode())
    shots, cot = read["shots"], read["cot"]
    delimiters = [
        Delimiters(question, between, answer, separator)
        for question, answer in shots["prefixes"]
        for between in shots["delimiters"]
        for separator in shots["separators"]
        if separator not in between
    ]
    return OwnTexts(
        styles={style: _asks(asks) for style, asks in read["styles"].items()},
        headers=[Text.of(text) for text in shots["headers"]],
        inverted_headers=_asks(shots["inverted_headers"]),
        delimiters=delimiters,
        plain_delimiters=[marks for marks in delimiters if not marks.question + marks.answer],
        options=OptionStyles.of(**read["options"]),
        inverted=_asks(read["inverted"]["direct"]),
        inverted_cot=_asks(read["inverted"]["cot"]),
        conclusions=[Text.of(text) for text in cot["conclusions"]],
        triggers=cot["triggers"],
        pairs={dataset: [(before, after) for before, after in pairs] for dataset, pairs in cot["pairs"].items()},
        pairs_without_options={
            dataset: [(before, after) for before, after in pairs if not _SPEAKS_OF_OPTIONS.search(f"{before} {after}")]
            for dataset, pairs in cot["pairs"].items()
        },
    )


def _asks(asks: Sequence[Mapping[str, str]]) -> list[Ask]:
    return [Ask.of(ask) for ask in asks]


def render_own(task: Task, example: Example, shots: Sequence[Example], form: Form, choice: int) -> Prompt:
    """The text of one example.

    Raises:
        DataError: the task's style has no wordings.
    """
    target = example.input if form.inverted else own_answer(example, form, choice)
    if shots:
        return _few_shot(task, example, shots, form, choice, target)
    instruction = task.instruction if form.instruction else ""
    if form.inverted:
        texts = own_texts()
        asks = texts.inverted_cot if form.cot and example.rationale is not None else texts.inverted
        return Prompt(asks[choice % len(asks)].fill(instruction, {"answer": own_answer(example, form, choice)}), target)
    if form.cot and (pairs := _pairs(task, example, form)):
        before, after = pairs[choice % len(pairs)]
        parts = (before if form.instruction else "", asked(example, form, choice), after)
        return Prompt("\n".join([part for part in parts if part]), target)
    text = _alone(task, example, instruction, form, choice)
    return Prompt(add_trigger(text, choice) if form.cot else text, target)


def own_answer(example: Example, form: Form, choice: int) -> str:
    """The answer, after its rationale where the form asks for one and there is one."""
    if not form.cot or example.rationale is None:
        return example.target
    conclusions = own_texts().conclusions
    conclusion = conclusions[draw(choice, CONCLUSION) % len(conclusions)]
    return reasoned(example.rationale, conclusion.fill({"answer": example.target}))


def lists_options(example: Example, form: Form) -> bool:
    """Whether the options are to be added; a question that holds them all already shows them as it is."""
    return form.options and bool(example.options) and not all(option in example.input for option in example.options)


def asked(example: Example, form: Form, choice: int) -> str:
    """The bare question with its options."""
    return example.input + _options(example, form, choice)


def _options(example: Example, form: Form, choice: int) -> str:
    """A line break and the list of options, or nothing."""
    return "\n" + own_texts().options.list(example.options, choice) if lists_options(example, form) else ""


def add_trigger(text: str, choice: int) -> str:
    """A prompt that asks for reasoning; after a colon on the same line, else on the next."""
    triggers = own_texts().triggers
    trigger = triggers[draw(choice, TRIGGER) % len(triggers)]
    text = text.rstrip()
    return f"{text} {trigger}" if text.endswith(":") else f"{text}\n{trigger}"


def _alone(task: Task, example: Example, instruction: str, form: Form, choice: int) -> str:
    styles = own_texts().styles
    if task.style not in styles:
        raise DataError(f"task {task.name}: style {task.style!r} has no wordings; styles: {', '.join(styles)}")
    asks = styles[task.style]
    values = {"input": example.input, "options": _options(example, form, choice)}
    if not example.input:  # the instruction is all there is to say
        values["input"], instruction = instruction, ""
    return asks[choice % len(asks)].fill(instruction, values)


def _pairs(task: Task, example: Example, form: Form) -> Sequence[tuple[str, str]]:
    if task.collection != "cot":
        return ()
    texts = own_texts()
    return (texts.pairs_without_options if example.options and not form.options else texts.pairs).get(task.dataset, ())


def _few_shot(task: Task, example: Example, shots: Sequence[Example], form: Form, choice: int, target: str) -> Prompt:
    texts = own_texts()
    choices = texts.plain_delimiters if task.style == "rendered" else texts.delimiters
    marks = choices[draw(choice, DELIMITERS) % len(choices)]
    pairs = _pairs(task, example, form) if form.cot else ()
    trigger = texts.triggers[draw(choice, TRIGGER) % len(texts.triggers)] if form.cot and not pairs else ""

    def turn(shot: Example, *, answered: bool) -> str:
        if form.inverted:  # the same marks the other way round
            opened = f"{marks.answer}{own_answer(shot, form, choice)}{marks.between}{marks.question}"
            return opened + shot.input if answered else opened
        question = shot.input if task.style == "rendered" else asked(shot, form, choice)
        opened = f"{marks.question}{question}{marks.between}{marks.answer}"
        if trigger and (shot.rationale is not None or not answered):
            opened += f"{trigger} "
        return opened + own_answer(shot, form, choice) if answered else opened

    return Prompt(
        turn(example, answered=False).rstrip(" "),
        target,
        preamble=_header(task, form, choice, pairs),
        shots=tuple(turn(shot, answered=True) + marks.separator for shot in shots),
    )


def _header(task: Task, form: Form, choice: int, pairs: Sequence[tuple[str, str]]) -> str:
    texts = own_texts()
    if not form.instruction:
        return ""
    if form.inverted:
        return texts.inverted_headers[choice % len(texts.inverted_headers)].fill(task.instruction, {})
    instruction = task.instruction
    if pairs:
        before, after = pairs[choice % len(pairs)]
        instruction = before or after
    if not instruction or task.style == "rendered":
        return ""
    return texts.headers[choice % len(texts.headers)].fill({"instruction": instruction})

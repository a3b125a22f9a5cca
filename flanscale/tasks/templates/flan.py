"""How does an example read in FLAN's words? Which of its templates fit an example, and how they are filled.

google-research/FLAN, `flan/v2/templates.py`. Unlike FLAN's code, each example draws its template and the style of its
options on its own, and templates that are turned round (in FLAN's tables they stand among the others) serve only
examples whose form is inverted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flanscale.tasks.task import Example, Task
from flanscale.tasks.templates.answers import extract_answer
from flanscale.tasks.templates.flan_source import Tables
from flanscale.tasks.templates.form import Form
from flanscale.tasks.templates.own import asked, lists_options, own_texts
from flanscale.tasks.templates.prompt import Prompt
from flanscale.tasks.templates.text import Text

_CHAIN = "chain_of_thought"
_INVERSION = "input_inversion"
_SEPARATED = "t0_multiple_choice_separated_options"
_GENERAL = ("cot", "t0sf")  # collections whose examples FLAN's templates know as a question and an answer
# FLAN's own rule for prompts without options, in its order.
_OPTIONS_PLACES = ("\n\n{options_}", "\n{options_}", " | {options_}", " {options_}", " ({options_})", "{options_}")
_SPEAKS_OF_OPTIONS = re.compile(r"\b(option|choice|choose|choosing|select|pick)", re.IGNORECASE)
_ALIASES = {
    "anli_r1": "anli",
    "anli_r2": "anli",
    "anli_r3": "anli",
    "arc_challenge": "arc",
    "arc_easy": "arc",
    "mnli_matched": "mnli",
    "mnli_mismatched": "mnli",
    "para_crawl_enes": "para_crawl",
    "trivia_qa_wiki_missing": "trivia_qa",
    **{f"wmt16_translate_{pair}": "wmt16_translate" for pair in ("csen", "deen", "fien", "roen", "ruen", "tren")},
}


@dataclass(frozen=True)
class Pattern:
    """One template of FLAN; the marks are empty for a single example."""

    question: Text
    without_options: Text
    answer: Text
    needs: frozenset[str]
    """The fields that it cannot do without."""
    before_question: str = ""
    before_answer: str = ""
    separator: str = ""
    before: Text = field(default=Text.of(""))
    """What stands before the first exemplar."""
    after: Text = field(default=Text.of(""))

    @classmethod
    def of(cls, inputs: str, targets: str) -> Pattern:
        without = inputs
        for place in _OPTIONS_PLACES:
            without = without.replace(place, "")
        question, answer = Text.of(inputs), Text.of(targets)
        return cls(question, Text.of(without), answer, frozenset({*question.names, *answer.names} - {"options_"}))

    @property
    def lists_options(self) -> bool:
        return "options_" in self.question.names

    @property
    def speaks_of_options(self) -> bool:
        return bool(_SPEAKS_OF_OPTIONS.search(self.without_options.source))

    @property
    def gives_itself_away(self) -> bool:
        """Its answer already stands in its question: a slip in a few of FLAN's inversions."""
        return set(self.answer.names) <= set(self.question.names)

    @property
    def is_found_again(self) -> bool:
        """What `extract_answer` makes of its answer is the answer's field and nothing else."""
        sample = self.answer.fill(dict.fromkeys(self.answer.names, "sample") | {_CHAIN: "reasons"})
        return extract_answer(sample, cot=_CHAIN in self.needs) == "sample"

    def ask(self, values: Mapping[str, str]) -> str:
        """The question, with its list of options where there is one."""
        return (self.question if "options_" in values else self.without_options).fill(values)


@dataclass(frozen=True)
class FlanTemplates:
    """FLAN's three tables, and what was found to fit which kind of example."""

    alone: Mapping[str, Sequence[Pattern]]
    shots: Mapping[str, Sequence[Pattern]]
    inline: Mapping[str, Sequence[Pattern]]
    """Those with one worked and explained example in the question."""
    _found: dict[object, Sequence[Pattern]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, tables: Tables) -> FlanTemplates:
        return cls(
            {key: [Pattern.of(*row) for row in rows] for key, rows in tables["PATTERNS"].items()},
            {key: [_few_shot(row) for row in rows] for key, rows in tables["FEWSHOT_PATTERNS"].items()},
            {key: [Pattern.of(*row) for row in rows] for key, rows in tables["INLINE_FS_PATTERNS"].items()},
        )

    def render(self, task: Task, example: Example, shots: Sequence[Example], form: Form, choice: int) -> Prompt | None:
        """The text of one example; None where no template fits."""
        key = flan_key(task, example, form)
        values = _values(task, example, key, form, choice)
        patterns = self._fitting(self.shots if shots else self.alone, key, values, form)
        if len(shots) == 1 and form.instruction:
            values |= _worked(shots[0])
            patterns = [*patterns, *self._fitting(self.inline, key, values, form)]
        if not patterns:
            return None
        pattern = patterns[choice % len(patterns)]
        target = pattern.answer.fill(values)
        if not shots or not pattern.separator:
            return Prompt(pattern.ask(values), target)

        def turn(shot: Example, known: Mapping[str, str]) -> str:
            question = pattern.ask(known)
            if not form.instruction and not form.inverted and "Definition" not in pattern.before.names:
                question = known["question"] if task.collection in _GENERAL else asked(shot, form, choice)
            return f"{pattern.before_question}{question}{pattern.before_answer}"

        turns = []
        for shot in shots:
            known = _values(task, shot, key, form, choice)
            if pattern.needs <= known.keys():
                turns.append(f"{turn(shot, known)}{pattern.answer.fill(known)}{pattern.separator}")
        question = turn(example, values).rstrip(" ")
        if not form.instruction:
            return Prompt(question, target, shots=tuple(turns))
        return Prompt(question + pattern.after.fill(values), target, pattern.before.fill(values), tuple(turns))

    def _fitting(
        self, table: Mapping[str, Sequence[Pattern]], key: str, values: Mapping[str, str], form: Form
    ) -> Sequence[Pattern]:
        """The templates of the form's direction whose holes the example fills; of these the best."""
        kind = (id(table), key, form.cot, form.inverted, form.evaluation, *values)
        if kind not in self._found:
            patterns: Sequence[Pattern] = [
                pattern for pattern in _directed(key, table, form) if pattern.needs <= values.keys()
            ]
            if "options_" in values:
                patterns = _preferred(patterns, lambda pattern: pattern.lists_options)
            else:
                patterns = _preferred(patterns, lambda pattern: not pattern.speaks_of_options)
            if form.evaluation:
                patterns = _preferred(patterns, lambda pattern: pattern.is_found_again)
            self._found[kind] = patterns
        return self._found[kind]


def flan_key(task: Task, example: Example, form: Form) -> str:
    """The name under which FLAN's tables would hold templates for the example in this form."""
    dataset = task.dataset or task.name
    if task.collection == "niv2":
        return "natinst_v2"
    if task.collection == "cot" and (form.cot or form.inverted):
        kind = "stream" if dataset in ("aqua", "qed") else "cot"
        return f"{kind}_{_INVERSION}_{dataset}" if form.inverted else f"{kind}_{dataset}"
    if task.collection == "cot" and dataset == "strategyqa":
        return dataset
    if task.collection == "cot":  # but for StrategyQA, FLAN has no words for these sets without their rationales
        return "t0_question_answer"
    if task.collection == "t0sf":
        return _SEPARATED if lists_options(example, form) else "t0_question_answer"
    name = task.name if task.collection == "muffin" else dataset
    return f"program_synthesis_{name}" if name.startswith(("dmcc_python", "dr_repair")) else _ALIASES.get(name, name)


def _few_shot(row: Mapping[str, str]) -> Pattern:
    frame = row["input_pattern"].replace("{{", "{").replace("}}", "}").replace("{final_suffix}", "")
    before, _, after = frame.partition("{inputs}")
    return replace(
        Pattern.of(row["inputs"], row["targets"]),
        before_question=row["inputs_prefix"],
        before_answer=row["x_y_delimiter"] + row["targets_prefix"],
        separator=row["example_separator"],
        before=Text.of(before),
        after=Text.of(after),
    )


def _directed(key: str, table: Mapping[str, Sequence[Pattern]], form: Form) -> list[Pattern]:
    """Forward or turned round. In one list, forward are those that answer with what most of the list answers with."""
    patterns = list(table.get(key, ()))
    inversions = table.get(f"{key}_{_INVERSION}")
    if form.inverted and inversions is not None:
        patterns = list(inversions)
    elif patterns and _INVERSION not in key:
        usual = Counter(frozenset(pattern.answer.names) for pattern in patterns).most_common(1)[0][0]
        patterns = [p for p in patterns if (frozenset(p.answer.names) != usual) == form.inverted]
    if not form.cot:
        patterns = [pattern for pattern in patterns if _CHAIN not in pattern.needs]
    elif not form.inverted:
        patterns = [pattern for pattern in patterns if _CHAIN in pattern.needs]
    return [pattern for pattern in patterns if not pattern.gives_itself_away]


def _preferred(patterns: Sequence[Pattern], best: Callable[[Pattern], bool]) -> Sequence[Pattern]:
    return [pattern for pattern in patterns if best(pattern)] or patterns


def _values(task: Task, example: Example, key: str, form: Form, choice: int) -> dict[str, str]:
    """What the holes of FLAN's templates are filled with; an empty field is none."""
    if key == "natinst_v2":
        return {"Definition": task.instruction, "input": example.input, "output": example.target}
    values = {name: value for name, value in example.fields.items() if value}
    values.setdefault("answer", example.target)
    if task.collection in _GENERAL:
        separate = form.inverted or key == _SEPARATED
        values.setdefault("question", example.input if separate else asked(example, form, choice))
        if example.rationale is not None:
            values.setdefault(_CHAIN, example.rationale)
    if example.options and form.options:
        values["options_"] = own_texts().options.list(example.options, choice)
    return values


def _worked(shot: Example) -> dict[str, str]:
    """The fields of the inline templates; none where the example is not explained."""
    explanation = shot.fields.get("explanation") or shot.rationale
    if not explanation:
        return {}
    return {"ex_input": shot.input, "ex_output": shot.target, "ex_explanation": explanation}

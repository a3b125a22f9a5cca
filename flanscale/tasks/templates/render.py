"""How does one example become input and target text? The same texts for the same choice, on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flanscale.tasks.task import Example, Task
from flanscale.tasks.templates.form import Form
from flanscale.tasks.templates.own import render_own
from flanscale.tasks.templates.procedural import render_procedural
from flanscale.tasks.templates.prompt import Prompt
from flanscale.tasks.templates.shots import choose_shots
from flanscale.tasks.templates.wordings import Wordings


def render(task: Task, index: int, form: Form, choice: int, wordings: Wordings) -> Prompt:
    """The text of one example.

    Args:
        index: which of `task.examples`.
        choice: everything that is drawn follows from it: 63 random bits in training, where the wording takes turns
            with it; the example's index in evaluation.

    Raises:
        DataError: the task's style has no wordings.
    """
    return render_example(task, task.examples[index], form, choice, wordings)


def render_example(task: Task, example: Example, form: Form, choice: int, wordings: Wordings) -> Prompt:
    """The same of an example of the task that is at hand: some are made anew whenever they are asked for."""
    if task.style == "text":
        return Prompt(example.input, "")
    shots: Sequence[Example] = choose_shots(task, example, form, choice) if form.shots else ()
    if form.shots and not shots and not form.instruction:
        form = replace(form, instruction=True)  # no exemplar would say what is asked
    if task.style == "procedural":
        return render_procedural(task, example, shots, form, choice)
    if wordings.flan is not None and task.collection != "rendered":  # those are in FLAN's words already
        prompt = wordings.flan.render(task, example, shots, form, choice)
        if prompt is not None:
            return prompt
        wordings.fall_back(task, example, form)
    return render_own(task, example, shots, form, choice)

"""How does an example become text? Forms, wordings and exemplars; the answer found again in what a model says.

`draw_form` settles the form of a training example and `evaluation_form` that of an evaluated one; `render` makes its
text from a task, the form and the random bits of one choice. The project's wordings stand in `own.toml` and
`procedural.py`; FLAN's are read from the user's copy.
"""

from flanscale.tasks.templates.answers import extract_answer
from flanscale.tasks.templates.form import Form, draw_form, evaluation_form
from flanscale.tasks.templates.procedural import procedural_words
from flanscale.tasks.templates.prompt import Prompt
from flanscale.tasks.templates.render import render, render_example
from flanscale.tasks.templates.wordings import Wordings, load_wordings

__all__ = [
    "Form",
    "Prompt",
    "Wordings",
    "draw_form",
    "evaluation_form",
    "extract_answer",
    "load_wordings",
    "procedural_words",
    "render",
    "render_example",
]

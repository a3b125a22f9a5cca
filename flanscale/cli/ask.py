"""How is a run asked something? The verb `generate`."""

from __future__ import annotations

import json
import logging
import sys
from typing import Annotated

import typer

from flanscale.cli.run_name import RunName
from flanscale.errors import ConfigError
from flanscale.evaluation.protocol import LanguageModel

log = logging.getLogger(__name__)


def generate(
    run: RunName,
    prompts: Annotated[
        list[str], typer.Argument(metavar="PROMPT...", help="as the model shall see them; -: one a line of stdin")
    ],
    tokens: Annotated[
        int | None, typer.Option(min=1, help="the most of an answer; by default as many as its evaluation takes")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Ask a run: its chosen checkpoint answers greedily, as in its evaluation."""
    from flanscale.config.compose import load
    from flanscale.orchestration.planning.finding import find_run
    from flanscale.schema import PathsConfig

    run_dir, asked = find_run(run, PathsConfig()), _asked(prompts)
    config = load(run_dir)
    evaluation = config.evaluation
    evaluation.batch_size = min(len(asked), evaluation.batch_size)
    logging.basicConfig(level=logging.WARNING, format="flanscale: %(message)s", stream=sys.stderr)
    from flanscale.weights.run_model import model_of  # JAX comes in here

    model = model_of(run_dir, config)
    most = tokens or max(evaluation.direct_tokens, evaluation.cot_tokens)
    answers = _answers(model, asked, most)
    if as_json:
        print(json.dumps([{"prompt": p, "answer": a} for p, a in zip(asked, answers, strict=True)], indent=1))
    elif len(asked) == 1:
        print(answers[0])
    else:
        for prompt, answer in zip(asked, answers, strict=True):
            print(f"> {prompt}\n{answer}")


def _answers(model: LanguageModel, asked: list[str], most: int) -> list[str]:
    from flanscale.evaluation.protocol import Question, Sampling, ordered

    limit, lengths = model.context_limit(most), model.tokens(asked)
    if long := [length for length in lengths if length > limit]:
        log.warning(
            "%d of %d prompts are longer than the %d tokens that training left for them (up to %d): what is said to"
            " them may mean little",
            *(len(long), len(asked), limit, max(long)),
        )
    questions = [Question(prompt, prompt) for prompt in asked]
    written = model.generate(questions, max_new_tokens=most, stop=(), sampling=Sampling())
    return [answer.text for (answer,) in ordered(written)]


def _asked(prompts: list[str]) -> list[str]:
    """The prompts, with the lines of standard input in place of `-`.

    Raises:
        ConfigError: nothing is asked.
    """
    asked: list[str] = []
    for prompt in prompts:
        asked += [line for line in sys.stdin.read().splitlines() if line.strip()] if prompt == "-" else [prompt]
    if not all(prompt.strip() for prompt in asked) or not asked:
        raise ConfigError("generate what? a prompt is empty")
    return asked

"""How does lm-evaluation-harness (EleutherAI) ask our models? Behind its own interface, so that all its tasks run.

What it asks is answered by its own definitions: white space at the end of a context belongs to the continuation, a
context that is too long loses its start, a rolling log-likelihood reads windows of the context. Three things are ours:

- the continuations of one context in one item are options of one prompt, so that what is read of it is read once, and
  all are compared behind the same tokens;
- a log-likelihood that is no number ends the evaluation, where an argmax over it would choose the first option;
- what is drawn depends on the seed, the context and the number of the repeat alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanscale.errors import ConfigError, DataError, NonFiniteLogits, nearest, one_line
from flanscale.evaluation.protocol import Choice, LanguageModel, Question, Sampling, Scored

MAX_GEN_TOKS = 256
"""The harness's own number of new tokens where a task says none."""
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of it, the first one counts."""
DONE = ("until", "do_sample", "temperature", "top_k", "top_p", *LIMITS)
SHOWN_CHARS = 80

Answered = Callable[[int], object]
"""Told of so many further requests that have their answers."""


def evaluate_with_harness(
    model: LanguageModel,
    tasks: Sequence[str],
    include_path: Path | None = None,
    *,
    name: str = "flanscale",
    shots: int | None = None,
    limit: int | None = None,
    generation: Mapping[str, Any] | None = None,
    seed: int = 0,
    include_defaults: bool = True,
) -> dict[str, Any]:
    """What `lm_eval.simple_evaluate` returns for these tasks, samples included.

    Args:
        tasks: names of tasks and groups, or YAML files of single ones.
        include_path: a folder with YAML files of further ones; with `dataset_path: json` they read local files.
        name: the model's in the results.
        shots: worked examples, where a task does not insist on none; the task's own number where nothing is said.
        limit: of the items of each task, the first ones.
        generation: what takes the place of a task's `generation_kwargs` by the same names.
        seed: of what is drawn at a temperature; worked examples are drawn by the harness's own seeds.
        include_defaults: whether the harness's own tasks are known too; reading their names takes seconds.

    Raises:
        ConfigError: lm_eval is not installed, there is no such task or folder, or a task asks for what is not done.
        DataError: a task's data is not here.
        NonFiniteLogits: the model has diverged.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError("lm-evaluation-harness is not here: pip install 'flanscale[lm-eval]'") from error
    if include_path is not None and not include_path.is_dir():
        raise ConfigError(f"include_path={include_path}: no such folder")
    path = None if include_path is None else str(include_path)
    manager = TaskManager(include_path=path, include_defaults=include_defaults)
    if unknown := [task for task in tasks if task not in manager.all_tasks and not Path(task).is_file()]:
        raise ConfigError(f"lm-evaluation-harness has no task {unknown[0]!r}{nearest(unknown[0], manager.all_tasks)}")
    try:
        results: dict[str, Any] = simple_evaluate(
            model=as_harness_model(model, name=name, seed=seed),
            tasks=list(tasks),
            num_fewshot=shots,
            limit=limit,
            gen_kwargs=None if generation is None else dict(generation),
            task_manager=manager,
        )
    except (ConnectionError, FileNotFoundError) as error:
        raise DataError(
            f"a task's data is not here: {one_line(error)}; a task can read a local file instead"
        ) from error
    return results


def as_harness_model(model: LanguageModel, *, name: str = "flanscale", seed: int = 0) -> Any:
    """An `lm_eval.api.model.LM`, for `lm_eval.simple_evaluate` and whatever else takes one."""
    from lm_eval.api.model import LM
    from tqdm import tqdm

    class HarnessModel(LM):
        """It asks `model`; of several processes all ask the same, so that each is the only one to the harness."""

        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            asked = [
                Continued(context, text, (request.task_name, request.doc_id))
                for request in requests
                for context, text in [request.args]
            ]
            with tqdm(total=len(requests), desc="loglikelihood", disable=disable_tqdm) as bar:
                return loglikelihoods(model, asked, bar.update)

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            texts = [request.args[0] for request in requests]
            with tqdm(total=len(requests), desc="loglikelihood_rolling", disable=disable_tqdm) as bar:
                return rolling_loglikelihoods(model, texts, bar.update)

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            with tqdm(total=len(requests), desc="generate_until", disable=disable_tqdm) as bar:
                return continuations(model, [request.args for request in requests], seed, bar.update)

        def get_model_info(self) -> dict[str, Any]:
            """What the harness notes of a model beside its class."""
            return {"model": name, "sampling_seed": seed}

    return HarnessModel()


# --- log-likelihoods --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Continued:
    """A continuation of a context in one item."""

    context: str
    text: str
    item: Hashable

    @property
    def prompt(self) -> str:
        return self.context.rstrip()

    @property
    def option(self) -> str:
        """With the white space before it, which belongs to its first word."""
        return self.context[len(self.prompt) :] + self.text


def loglikelihoods(
    model: LanguageModel, asked: Sequence[Continued], answered: Answered = lambda _: None
) -> list[tuple[float, bool]]:
    """The log-probability of each continuation, nats, and whether each of its tokens is the most likely one.

    An empty continuation is certain.

    Raises:
        NonFiniteLogits: a log-probability is no number.
    """
    groups: dict[tuple[Hashable, str], list[int]] = {}
    for place, one in enumerate(asked):
        if one.option:
            groups.setdefault((one.item, one.prompt), []).append(place)
    found = [(0.0, True)] * len(asked)
    answered(len(asked) - sum(map(len, groups.values())))
    options = [list(dict.fromkeys(asked[place].option for place in places)) for places in groups.values()]
    choices = [Choice(prompt, tuple(own)) for (_, prompt), own in zip(groups, options, strict=True)]
    members = list(groups.values())
    for batch in model.score(choices):
        for number, scores in batch.items():
            of_option = dict(zip(options[number], scores, strict=True))
            for place in members[number]:
                found[place] = _sum(of_option[asked[place].option], choices[number].prompt)
            answered(len(members[number]))
    return found


def rolling_loglikelihoods(
    model: LanguageModel, texts: Sequence[str], answered: Answered = lambda _: None
) -> list[float]:
    """The log-probability of each text from its beginning on, nats.

    Raises:
        NonFiniteLogits: a log-probability is no number.
    """
    asked = [Continued("", text, place) for place, text in enumerate(texts)]
    return [logprob for logprob, _ in loglikelihoods(model, asked, answered)]


def _sum(scored: Scored, prompt: str) -> tuple[float, bool]:
    total = math.fsum(scored.logprobs)
    if not math.isfinite(total):
        raise NonFiniteLogits(
            f"the model's logits are not finite behind {prompt[-SHOWN_CHARS:]!r}: its parameters have diverged"
        )
    return total, scored.greedy


# --- written answers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writing:
    """How a task wants its answers written."""

    max_new_tokens: int
    stop: tuple[str, ...]
    sampling: Sampling

    @staticmethod
    def of(asked: Mapping[str, Any], seed: int) -> Writing:
        """From a task's `generation_kwargs`.

        Raises:
            ConfigError: they ask for what is not done here.
        """
        for key, value in asked.items():
            if key not in DONE and (key, value) != ("num_beams", 1):
                raise ConfigError(
                    f"generation_kwargs: {key}={json.dumps(value, default=str)} is not done here; what is done:"
                    f" {', '.join(DONE)}"
                )
        limits = [asked[key] for key in LIMITS if asked.get(key) is not None]
        until = asked.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(until)
        given = asked.get("temperature")
        draws = bool(given) if asked.get("do_sample") is None else asked["do_sample"]
        sampling = Sampling(seed=seed)
        if draws:
            temperature = 1.0 if given is None else float(given)
            sampling = Sampling(temperature, asked.get("top_k") or None, float(asked.get("top_p") or 1.0), seed)
        return Writing(int(limits[0]) if limits else MAX_GEN_TOKS, tuple(text for text in stop if text), sampling)


def continuations(
    model: LanguageModel,
    asked: Sequence[tuple[str, Mapping[str, Any]]],
    seed: int,
    answered: Answered = lambda _: None,
) -> list[str]:
    """A text behind each context, without the stop text that ended it.

    A context that is asked for again in the same way is a repeat: drawn anew at a temperature, else the same text.

    Raises:
        ConfigError: a task asks for what is not done here, or for more tokens than the model has.
        NonFiniteLogits: the model gave no token.
    """
    groups: dict[Writing, dict[str, list[int]]] = {}
    for place, (context, wanted) in enumerate(asked):
        groups.setdefault(Writing.of(wanted, seed), {}).setdefault(context, []).append(place)
    found = [""] * len(asked)
    for writing, places in groups.items():
        if model.context_limit(writing.max_new_tokens) < 1:
            raise ConfigError(
                f"max_gen_toks={writing.max_new_tokens}: the model's context leaves no room for a prompt before so many"
                " tokens; give fewer: generation={'max_gen_toks': …}"
            )
        draws = writing.sampling.temperature > 0
        questions = [Question(context, context, len(own) if draws else 1) for context, own in places.items()]
        members = list(places.values())
        for batch in model.generate(
            questions, max_new_tokens=writing.max_new_tokens, stop=writing.stop, sampling=writing.sampling
        ):
            for number, texts in batch.items():
                for repeat, place in enumerate(members[number]):
                    found[place] = texts[repeat if draws else 0].text
                answered(len(members[number]))
    return found

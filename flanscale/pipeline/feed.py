"""What does one cell read? Its mixture and its texts: out of the tokenised store, or rendered at every draw.

A task goes through the same steps either way: contaminated examples out, held-in examples aside, a form drawn for each
example, text, tokens. With `mixture.renderings=0` that happens at every draw; otherwise once per example and rendering,
for all cells that share the task, its forms and the tokenizer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flanscale.pipeline.entry import Entry
from flanscale.pipeline.prepare import Prepared, TaskTexts, prepare
from flanscale.pipeline.ragged import Ragged
from flanscale.pipeline.source import OnDemand, Source
from flanscale.pipeline.spelling import summary, unspelt, warning
from flanscale.pipeline.store import Store, entry_key
from flanscale.pipeline.tokenizers import Tokenizer
from flanscale.pipeline.windows import NoisyText, noisy_examples, open_objective
from flanscale.schema import RunConfig
from flanscale.tasks.contamination import Hit, clean
from flanscale.tasks.guard import Guard
from flanscale.tasks.mixture import Mixture, build_mixture, select_tasks, split_validation, weigh
from flanscale.tasks.registry import open_benchmarks, open_training, open_wordings
from flanscale.tasks.task import Collection, Example, Task
from flanscale.tasks.templates import Prompt, Wordings, draw_form, render_example

log = logging.getLogger(__name__)

FORMAT = 3  # of what an entry of the store holds; raise it when the same settings come to other texts or facts
SAMPLED = 10  # answers of a task, where nothing is stored that tells of all
BAD, CONTAMINATED = "malformed", "contaminated"
FORM_KNOBS = (
    "templates",
    "cot_fraction",
    "exemplars",
    "few_shot_fraction",
    "bare_fraction",
    "inverted_fraction",
    "options_fraction",
)
CLEANING_KNOBS = ("skip_bad", "validation_examples", "contamination", "contamination_words")
"""Knobs of a mixture that change the texts of its tasks; the others change which tasks, or how often."""


@dataclass(frozen=True, eq=False)
class Feed:
    """The training texts of one cell."""

    mixture: Mixture
    source: Source
    held_in: tuple[Ragged, Ragged]
    """Inputs and targets of the held-in examples of all tasks."""
    tokens_per_draw: np.ndarray | None
    """Mean tokens (input and target) of one draw of each task, [T]; None where nothing is stored."""
    contamination: Sequence[dict[str, Any]]
    """Every overlap with a benchmark, dropped or not, as `contamination.json` holds it."""
    left_out: Mapping[str, int]
    """Why → examples that are not trained on."""
    unspelt: Mapping[str, float]
    """Task → share of its answers that the vocabulary cannot spell; of its first ones where nothing is stored."""

    def log_to(self, log: logging.Logger) -> None:
        """What is left out, and what the vocabulary cannot spell, a line each; silent where nothing is."""
        if self.left_out:
            log.warning("left out of the mixture: %s", ", ".join(f"{n:,} {why}" for why, n in self.left_out.items()))
        for level, tell in ((logging.WARNING, warning), (logging.INFO, summary)):
            if line := tell(self.unspelt, len(self.mixture.names)):
                log.log(level, "%s", line)


def open_feed(
    config: RunConfig,
    tokenizer: Tokenizer,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Feed:
    """The texts of a resolved cell; what the store lacks is made first.

    Args:
        workers: processes that fill the store; all cores that this process may use where not given.
        on_progress: told (done, total, task) while they do.

    Raises:
        DataError: a task is missing, malformed or empty, or the store cannot be written.
    """
    renderer = Renderer(config)
    if config.mixture.renderings == 0:
        feed = _on_demand(renderer, tokenizer)
    else:
        feed = _stored(renderer, tokenizer, workers, on_progress)
    return _of_texts(feed, renderer, tokenizer) if config.objective.denoisers else feed


@dataclass(frozen=True)
class Renderer:
    """Makes the texts of tasks; travels to worker processes as its configuration alone."""

    config: RunConfig
    held_in: bool = False
    """Make the texts of the held-in part."""

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "held_in": self.held_in}

    @cached_property
    def collection(self) -> Collection:
        return open_training(self.config)

    @cached_property
    def wordings(self) -> Wordings:
        return open_wordings(self.config.mixture.templates, self.config.data)

    @cached_property
    def guard(self) -> Guard | None:
        mixture = self.config.mixture
        if mixture.contamination == "off":
            return None
        return Guard.build(open_benchmarks(self.config.data), mixture.contamination_words)

    def cleaned(self, task: Task) -> tuple[Task, list[Hit]]:
        return (task, []) if self.guard is None else clean(task, self.guard, self.config.mixture.contamination)

    def prompt(self, task: Task, index: int, choice: int) -> Prompt:
        """One training example as text; `choice` (63 random bits) settles its form and wording."""
        example = task.examples[index]
        form = draw_form(task, example, self.config.mixture, cot=self.config.cot, choice=choice)
        return render_example(task, example, form, choice, self.wordings)

    def __call__(self, name: str) -> TaskTexts:
        """All texts that the store keeps of one task's training part, or of its held-in part."""
        bad_before = self.collection.skips.total
        task = self.collection.task(name)
        bad = self.collection.skips.total - bad_before
        cleaned, hits = self.cleaned(task)
        training, held_in = split_validation(cleaned, self.config.mixture)
        part = dataclasses.replace(cleaned, examples=held_in) if self.held_in else training
        renderings = 1 if self.held_in else self.config.mixture.renderings
        prompts = [
            self.prompt(part, index, _choice(name, part.examples[index], rendering))
            for index in range(len(part.examples))
            for rendering in range(renderings)
        ]
        return TaskTexts(
            inputs=[prompt.input for prompt in prompts],
            targets=[prompt.target for prompt in prompts],
            examples=len(part.examples),
            renderings=renderings,
            dropped={BAD: bad, CONTAMINATED: len(task.examples) - len(cleaned.examples)},
            facts={"hits": [dataclasses.asdict(hit) for hit in hits]},
        )

    def key(self, name: str, tokenizer: Tokenizer) -> str:
        """The content address of one task's texts: alike for all cells that would make the same tokens."""
        return entry_key(task=name, content=self.collection.fingerprint(name), **self._settings(tokenizer))

    def manifest_key(self, names: Sequence[str], tokenizer: Tokenizer) -> str:
        """The content address of the texts of all these tasks, whose content the planner has fingerprinted."""
        return entry_key(tasks=list(names), content=self.config.fingerprints["tasks"], **self._settings(tokenizer))

    def _settings(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """All that changes a task's tokens, apart from the task's content."""
        config = self.config
        return {
            "feed": FORMAT,
            "collection": dataclasses.asdict(config.collection),
            "cot": config.cot,
            "held_in": self.held_in,
            "renderings": 1 if self.held_in else config.mixture.renderings,
            "tokenizer": tokenizer.fingerprint,
            "wordings": config.fingerprints["wordings"],
            "benchmarks": config.fingerprints.get("benchmarks"),
            **{name: getattr(config.mixture, name) for name in (*FORM_KNOBS, *CLEANING_KNOBS)},
        }


def _choice(task: str, example: Example, rendering: int) -> int:
    """63 bits that settle one stored rendering, whatever else is in the mixture; wordings take turns with them."""
    digest = hashlib.blake2b(f"{task}\0{example.id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + rendering) % (1 << 63)


def _of_texts(feed: Feed, renderer: Renderer, tokenizer: Tokenizer) -> Feed:
    """The same texts as the cell's objective has them learned: a task's examples are now windows of its texts."""
    config = renderer.config
    objective = open_objective(config, tokenizer)
    source = NoisyText(feed.source, objective)
    source.log_to(log)
    return dataclasses.replace(
        feed,
        mixture=weigh(renderer.collection, feed.mixture.names, source.sizes, config.mixture),
        source=source,
        held_in=noisy_examples(*feed.held_in, objective),
        tokens_per_draw=source.tokens_per_draw,
    )


# --- rendered at every draw -----------------------------------------------------------------------------------------


def _on_demand(renderer: Renderer, tokenizer: Tokenizer) -> Feed:
    hits: list[Hit] = []
    left_out: Counter[str] = Counter()

    def cleaned(task: Task) -> Task:
        rest, found = renderer.cleaned(task)
        hits.extend(found)
        left_out[CONTAMINATED] += len(task.examples) - len(rest.examples)
        return rest

    config = renderer.config
    mixture, tasks, held_in = build_mixture(renderer.collection, config.mixture, cot=config.cot, clean=cleaned)
    kept_back = [dataclasses.replace(task, examples=part) for task, part in zip(tasks, held_in, strict=True)]
    prompts = [
        renderer.prompt(task, index, _choice(task.name, example, 0))
        for task in kept_back
        for index, example in enumerate(task.examples)
    ]
    tokens = (tokenizer.encode([p.input for p in prompts]), tokenizer.encode([p.target for p in prompts]))
    return Feed(
        mixture,
        OnDemand(tasks, renderer.prompt, tokenizer),
        held_in=tokens,
        tokens_per_draw=None,
        contamination=[dataclasses.asdict(hit) for hit in hits],
        left_out=+(left_out + Counter({BAD: renderer.collection.skips.total})),
        unspelt={task.name: _unspelt_share(task, tokenizer) for task in tasks if len(task.examples)},
    )


def _unspelt_share(task: Task, tokenizer: Tokenizer) -> float:
    first = [task.examples[index].target for index in range(min(SAMPLED, len(task.examples)))]
    return unspelt(tokenizer.encode(first), tokenizer.unknown_id) / len(first)


# --- out of the store -----------------------------------------------------------------------------------------------


def _stored(
    renderer: Renderer, tokenizer: Tokenizer, workers: int | None, on_progress: Callable[[int, int, str], None] | None
) -> Feed:
    config = renderer.config
    names = select_tasks(renderer.collection, config.mixture, cot=config.cot)
    store = Store(Path(config.paths.cache).expanduser() / "store")

    def prepared_by(renderer: Renderer) -> Prepared:
        return prepare(
            names,
            renderer,
            lambda name: renderer.key(name, tokenizer),
            store,
            config.tokenizer,
            workers=workers,
            on_progress=on_progress,
            manifest_key=renderer.manifest_key(names, tokenizer),
        ).check()

    training = prepared_by(renderer)
    held_in: list[Entry] = []
    if config.mixture.validation_examples:
        aside = prepared_by(dataclasses.replace(renderer, held_in=True))
        held_in = [aside.entries[name] for name in names]
    facts = [training.entries[name].facts for name in names]
    sizes = [int(fact["examples"]) for fact in facts]
    tokens = np.array([fact["input_tokens"] + fact["target_tokens"] for fact in facts], np.float64)
    texts = np.array([max(1, fact["examples"] * fact["renderings"]) for fact in facts])
    return Feed(
        weigh(renderer.collection, names, sizes, config.mixture),
        training.source(names),
        held_in=(Ragged.concatenate([e.inputs for e in held_in]), Ragged.concatenate([e.targets for e in held_in])),
        tokens_per_draw=tokens / texts,
        contamination=[hit for fact in facts for hit in fact["hits"]],
        left_out=+sum((Counter(fact["dropped"]) for fact in facts), Counter()),
        unspelt=_unspelt_shares({name: training.entries[name].facts for name in names}),
    )


def unspelt_in_store(config: RunConfig, tokenizer: Tokenizer) -> Mapping[str, float] | None:
    """Task of a resolved cell's mixture → share of its answers that the vocabulary cannot spell, as the store tells.

    None where the store has not the whole mixture.
    """
    if not config.mixture.renderings or not config.mixture.count:
        return None
    renderer = Renderer(config)
    names = select_tasks(renderer.collection, config.mixture, cot=config.cot)
    manifest = Store(Path(config.paths.cache).expanduser() / "store").manifest(renderer.manifest_key(names, tokenizer))
    return None if manifest is None else _unspelt_shares(manifest.facts)


def _unspelt_shares(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {name: fact["unspelt"] / max(1, fact["examples"] * fact["renderings"]) for name, fact in facts.items()}

"""What will a cell cost? Operations from its configuration, seconds from runs of its size, or from an assumed MFU."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from flanscale.chips import CHIPS
from flanscale.errors import ConfigError
from flanscale.run_directory import RunState, is_run, read_config, read_rows, read_state
from flanscale.schema import RunConfig, TokenizerConfig
from flanscale.sizing.flops import parameter_count, training_flops

ENOUGH_RUNS = 3  # of one size, for its pace
T5_ROWS = 32_128  # 32,100 pieces, padded (Raffel et al. 2020, and the config.json of google/t5-v1_1-small)
MOST_LOOKED_AT = 20  # run directories of other studies, for one size


@dataclass(frozen=True)
class Cost:
    """Counted, not measured."""

    steps: int  # of training; of an evaluation, its items
    tokens: int  # positions of all packed rows, padding included
    parameters: int
    flops: float


def cost_of(config: RunConfig) -> Cost:
    """The cost of one cell."""
    trainer = config.trainer
    rows = trainer.steps * trainer.batch_rows
    tokens = rows * (trainer.input_tokens + trainer.target_tokens)
    vocabulary = rows_of_embedding(config)
    row = training_flops(config.model, vocabulary, trainer.input_tokens, trainer.target_tokens)
    return Cost(trainer.steps, tokens, parameter_count(config.model, vocabulary), rows * row)


def rows_of_embedding(config: RunConfig) -> int:
    """The model's own, or what the tokenizer asks for."""
    return config.model.vocab_size or vocabulary_size(config.tokenizer.name, config.tokenizer.vocabulary)


@cache
def vocabulary_size(name: str, vocabulary: str | None) -> int:
    """Rows of the embedding table that a tokenizer asks for; T5's where a SentencePiece vocabulary is not here yet."""
    if name == "sentencepiece" and vocabulary is None:
        return T5_ROWS
    from flanscale.pipeline.tokenizers import load_tokenizer, padded_vocab_size

    return padded_vocab_size(load_tokenizer(TokenizerConfig(name, vocabulary)))


def devices(config: RunConfig) -> int:
    """Of a cell's job."""
    mesh = config.trainer.mesh
    return math.prod((mesh.data, mesh.fsdp, mesh.tensor))


# --- seconds ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """How fast finished runs of one size were."""

    seconds_per_step: float
    around: float  # seconds of a run outside of its steps: start, compilation, evaluation
    runs: int

    def seconds(self, steps: int) -> float:
        return steps * self.seconds_per_step + self.around


@dataclass(frozen=True)
class Run:
    """A finished run: what it was to do, and where it lies."""

    size: str
    steps: int
    slots: int  # positions of a batch
    directory: Path
    seconds: float


def size_of(config: RunConfig) -> str:
    """What decides how long a step takes: equal for cells of one pace."""
    trainer = {**vars(config.trainer), "mesh": vars(config.trainer.mesh)}
    sections = {"model": vars(config.model), "optimizer": vars(config.optimizer), "cluster": vars(config.cluster)}
    return _size({**sections, "trainer": trainer})


def _size(config: Mapping[str, Any]) -> str:
    trainer, model = config["trainer"], {k: v for k, v in config["model"].items() if k not in ("name", "dropout")}
    names = ("batch_rows", "input_tokens", "target_tokens", "precision", "microbatches", "mesh")
    where = {name: config["cluster"][name] for name in ("chip", "name", "cpus")}
    parts = [model, {name: trainer[name] for name in names}, config["optimizer"]["name"], where]
    return json.dumps(parts, sort_keys=True)


def run_of(config: RunConfig, directory: Path, state: RunState) -> Run:
    """A finished run whose configuration is at hand."""
    trainer = config.trainer
    slots = trainer.batch_rows * (trainer.input_tokens + trainer.target_tokens)
    return Run(size_of(config), trainer.steps, slots, directory, state.seconds)


def finished_runs(runs: Path, config: RunConfig) -> Iterator[Run]:
    """Finished runs of a cell's size in the runs folder, whichever study they belong to. Damaged ones are passed by."""
    size, name = size_of(config), config.model.name
    alike = sorted(path for path in runs.glob(f"*-{name}-*") if is_run(path))
    for directory in islice(alike, MOST_LOOKED_AT):
        try:
            state, made = read_state(directory), read_config(directory)
            if state.state == "finished" and _size(made) == size:
                trainer = made["trainer"]
                slots = trainer["batch_rows"] * (trainer["input_tokens"] + trainer["target_tokens"])
                yield Run(size, trainer["steps"], slots, directory, state.seconds)
        except (ConfigError, KeyError, TypeError):  # another version's, or half-written
            continue


def pace_of(runs: Iterable[Run]) -> Pace | None:
    """The pace of finished runs of one size, by the throughput that they logged; None where none has trained."""
    steps, around = [], []
    for run in islice((run for run in runs if run.steps), ENOUGH_RUNS):
        rows = read_rows(run.directory)
        seconds = [
            run.slots * (1 - row["train/pad_fraction"]) / row["train/tokens_per_second"]
            for row in rows
            if row.get("train/tokens_per_second") and isinstance(row.get("train/pad_fraction"), float)
        ]
        if seconds:
            steps.append(median(seconds))
            around.append(max(0.0, run.seconds - run.steps * steps[-1]))
    return Pace(median(steps), median(around), len(steps)) if steps else None


@dataclass(frozen=True)
class Estimate:
    """Seconds of one cell, and how they are known: `measured`, `pace` (of other sizes, by FLOPs) or `mfu`."""

    seconds: float
    basis: str
    devices: int

    @property
    def device_hours(self) -> float:
        return self.seconds * self.devices / 3600


def estimate(config: RunConfig, cost: Cost, pace: Pace | None, by_flops: float | None) -> Estimate | None:
    """What a cell will take; None where nothing is known.

    Args:
        pace: of finished runs of its size.
        by_flops: seconds by the pace of finished cells of other sizes.
    """
    count, chip = devices(config), config.cluster.chip
    if pace:
        return Estimate(pace.seconds(cost.steps), "measured", count)
    if chip:
        return Estimate(cost.flops / (CHIPS[chip].peak_flops * config.cluster.mfu * count), "mfu", count)
    return None if by_flops is None else Estimate(by_flops, "pace", count)


def estimated_seconds(weights: Mapping[str, float], measured: Mapping[str, float]) -> dict[str, float] | None:
    """Seconds of every cell that is not measured, in proportion to its weight; None before anything is measured.

    Args:
        weights: relative work of each cell, by cell id.
        measured: seconds of the finished cells, by cell id.

    A cell of weight 0 is only evaluated and is taken to last as long as the shortest measured one.
    """
    rates = [measured[cell] / weights[cell] for cell in measured if weights[cell] > 0]
    if not measured:
        return None
    rate, shortest = (median(rates) if rates else 0.0), min(measured.values())
    return {cell: max(weight * rate, shortest) for cell, weight in weights.items() if cell not in measured}

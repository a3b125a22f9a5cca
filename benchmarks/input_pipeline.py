"""How fast does text become packed batches, beside the usual Hugging Face route on the same cores?

One command: `python benchmarks/input_pipeline.py --data DIR`, in an environment with benchmarks/requirements.txt. What
each side does is said in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from training import reuse_freed_memory

sys.path.insert(0, str(Path(__file__).parents[1]))
from flanscale.pipeline.batches import BLOCK_SIZE, PackedBatches
from flanscale.pipeline.layout import BatchLayout
from flanscale.pipeline.prepare import TaskTexts, prepare
from flanscale.pipeline.source import OnDemand, Source
from flanscale.pipeline.store import Store, entry_key
from flanscale.pipeline.tokenizers import load_tokenizer
from flanscale.schema import TokenizerConfig, TrainerConfig
from flanscale.tasks.task import Example, Task
from flanscale.tasks.templates import Prompt

TRAINER = TrainerConfig(steps=0, batch_rows=64, input_tokens=1024, target_tokens=256)
EOS = 1
T5_SMALL_TOKENS_PER_SECOND = 1300  # what a T5-small trains at on two cores in float32, both sides counted

Pair = tuple[str, str]


# --- what both sides start from ---------------------------------------------------------------------------------


def tasks_of(data: Path, collections: Sequence[str]) -> Iterator[list[Pair]]:
    """Input and target texts of whole collections, one list a file."""
    if "niv2" in collections:
        for path in sorted((data / "niv2" / "tasks").glob("*.json.gz")):
            task = json.loads(gzip.decompress(path.read_bytes()))
            yield [(f"{task['Definition'][0]}\n\n{i['input']}", i["output"][0]) for i in task["Instances"]]
    if "cot" in collections:
        for path in sorted((data / "cot").glob("*_train.tsv")):
            lines = path.read_text(encoding="utf-8").split("\n")
            fields = [line.split("\t") for line in lines if line]
            yield [(question, f"{rationale} The answer is {answer}") for question, answer, rationale in fields]
    if "t0" in collections:
        for path in sorted((data / "t0").rglob("*.jsonl.gz")):
            lines = gzip.decompress(path.read_bytes()).decode().split("\n")
            rows = [json.loads(line) for line in lines if line]
            yield [(row["prompt"], row["completion"].removesuffix("<|endoftext|>")) for row in rows]


def tokenizer_config(data: Path) -> TokenizerConfig:
    """T5's vocabulary."""
    return TokenizerConfig("sentencepiece", str(data / "tokenizer" / "t5.spiece.model"))


@dataclass(frozen=True)
class Made:
    """What one side made of all pairs."""

    seconds: float
    examples: int
    rows: int
    input_tokens: int  # with EOS, without padding
    target_tokens: int

    @property
    def fill(self) -> float:
        """Share of the rows' places taken, in the feature that takes more."""
        inputs, targets = self.input_tokens / TRAINER.input_tokens, self.target_tokens / TRAINER.target_tokens
        return max(inputs, targets) / self.rows


def count(batches: Iterable[dict[str, Any]], started: float) -> Made:
    """Draws all batches and counts what is in them."""
    examples = rows = inputs = targets = 0
    for batch in batches:
        rows += len(batch["decoder_segment_ids"])
        inputs += int((batch["encoder_segment_ids"] > 0).sum())
        targets += int((batch["decoder_segment_ids"] > 0).sum())
        examples += int(batch["decoder_segment_ids"].max(axis=1).sum())
    return Made(time.perf_counter() - started, examples, rows, inputs, targets)


# --- flanscale: tokenise once into the store, then draw and pack from it ------------------------------------------


@dataclass(frozen=True)
class TextsOnDisk:
    """Texts of a task by name, from a file each, as worker processes read them."""

    folder: Path

    def write(self, tasks: list[list[Pair]]) -> list[str]:
        """The names."""
        for number, pairs in enumerate(tasks):
            (self.folder / f"{number}.json").write_text(json.dumps(pairs), encoding="utf-8")
        return [str(number) for number in range(len(tasks))]

    def __call__(self, name: str) -> TaskTexts:
        pairs = json.loads((self.folder / f"{name}.json").read_bytes())
        return TaskTexts([pair[0] for pair in pairs], [pair[1] for pair in pairs], len(pairs), renderings=1)


def epoch(source: Source) -> Iterator[dict[str, np.ndarray]]:
    """Batches until every example has been drawn; each task in proportion to its examples."""
    sizes = np.asarray(source.sizes)
    weights = sizes / sizes.sum()
    batches = PackedBatches(source, weights, BatchLayout(TRAINER, "encoder_decoder", EOS), seed=0)
    while batches.state()["block"] * BLOCK_SIZE < sizes.sum():
        yield next(batches)


def from_texts(tasks: list[list[Pair]], data: Path, processes: int) -> tuple[Made, Made]:
    """All pairs tokenised, stored and packed; and the packing from the store alone."""
    with tempfile.TemporaryDirectory() as name:
        texts = TextsOnDisk(Path(name))
        names = texts.write(tasks)
        started = time.perf_counter()
        store = Store(Path(name) / "store")
        prepared = prepare(
            names, texts, lambda task: entry_key(task=task), store, tokenizer_config(data), workers=processes
        )
        source = prepared.check().source(names)
        stored = time.perf_counter()
        alone = count(epoch(source), stored)
    return replace(alone, seconds=time.perf_counter() - started), alone


def on_demand(tasks: list[list[Pair]], data: Path) -> Made:
    """Every draw tokenised when it comes, by as many threads as there are cores; nothing stored."""

    def task(number: int, pairs: list[Pair]) -> Task:
        examples = [Example(str(i), *pair[:1], references=pair[1:]) for i, pair in enumerate(pairs)]
        return Task(str(number), "benchmark", "", "", examples)

    def render(task: Task, example: int, choice: int) -> Prompt:
        return Prompt(task.examples[example].input, task.examples[example].target)

    source = OnDemand(
        [task(*numbered) for numbered in enumerate(tasks)], render, load_tokenizer(tokenizer_config(data))
    )
    return count(epoch(source), time.perf_counter())


# --- Hugging Face: datasets.map with the fast tokenizer, then a data loader whose collator packs -----------------


def hugging_face_dataset(tasks: list[list[Pair]], folder: Path) -> Any:
    """The texts as an Arrow file, as `load_dataset` would leave them."""
    from datasets import Dataset, load_from_disk

    inputs, targets = zip(*(pair for pairs in tasks for pair in pairs), strict=True)
    Dataset.from_dict({"input": inputs, "target": targets}).save_to_disk(folder / "texts")
    return load_from_disk(folder / "texts")


def hugging_face_tokenizer(data: Path, folder: Path) -> Any:
    """transformers' T5TokenizerFast from the same vocabulary."""
    from transformers import T5TokenizerFast

    shutil.copy(data / "tokenizer" / "t5.spiece.model", folder / "spiece.model")
    return T5TokenizerFast.from_pretrained(folder, extra_ids=0)


def packing_collator(features: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """First fit, in order, of the features of one batch into as many rows as they need."""
    widths = {"encoder": TRAINER.input_tokens, "decoder": TRAINER.target_tokens}
    examples = [
        {
            "encoder": np.append(feature["input"][: widths["encoder"] - 1], EOS),
            "decoder": np.append(feature["target"][: widths["decoder"] - 1], EOS),
        }
        for feature in features
    ]
    rows: list[list[dict[str, np.ndarray]]] = []
    used = np.zeros((len(examples), 2), np.int64)
    for example in examples:
        need = [len(example["encoder"]), len(example["decoder"])]
        fits = (used[: len(rows)] + need <= [widths["encoder"], widths["decoder"]]).all(axis=1)
        row = int(fits.argmax()) if fits.any() else len(rows)
        if row == len(rows):
            rows.append([])
        rows[row].append(example)
        used[row] += need
    batch: dict[str, np.ndarray] = {}
    for side, width in widths.items():
        tokens, segment_ids, positions = (np.zeros((len(rows), width), np.int32) for _ in range(3))
        for row, members in enumerate(rows):
            at = 0
            for number, example in enumerate(members, 1):
                end = at + len(example[side])
                tokens[row, at:end] = example[side]
                segment_ids[row, at:end] = number
                positions[row, at:end] = np.arange(end - at)
                at = end
        batch |= {f"{side}_tokens": tokens, f"{side}_segment_ids": segment_ids, f"{side}_positions": positions}
    shifted = np.roll(batch["decoder_tokens"], 1, axis=1)
    batch["decoder_input_tokens"] = np.where(batch["decoder_positions"] == 0, 0, shifted)
    batch["decoder_loss_weights"] = (batch["decoder_segment_ids"] > 0).astype(np.float32)
    return batch


def hugging_face(tasks: list[list[Pair]], data: Path, processes: int) -> Made:
    """`map(batched=True, num_proc=…)`, then `DataLoader(num_workers=…)` with the packing collator."""
    from torch.utils.data import DataLoader

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts, tokenizer = hugging_face_dataset(tasks, folder), hugging_face_tokenizer(data, folder)

        def tokenise(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
            return {side: tokenizer(batch[side], add_special_tokens=False)["input_ids"] for side in ("input", "target")}

        started = time.perf_counter()
        ids = texts.map(tokenise, batched=True, num_proc=processes, load_from_cache_file=False).with_format("numpy")
        loader = DataLoader(ids, 512, shuffle=True, num_workers=processes, collate_fn=packing_collator)
        return count(loader, started)


# --- the comparison ---------------------------------------------------------------------------------------------


def machine(*packages: str) -> str:
    """What these figures were measured on, and how busy it was."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return f"{cpu}, {cores} cores, load average {load:.1f} at the start; Python {platform.python_version()}, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with niv2/, cot/, t0/ and tokenizer/")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="take every n-th task only: a quick look")
    options = parser.parse_args()
    import datasets

    datasets.disable_progress_bars()
    reuse_freed_memory()
    print(machine("numpy", "sentencepiece", "datasets", "transformers", "tokenizers", "torch"))
    tasks = list(tasks_of(options.data, ["niv2", "cot", "t0"]))[:: options.every]
    print(f"{len(tasks)} tasks, {sum(map(len, tasks))} pairs, {options.processes} processes a side\n")
    made: dict[str, list[Made]] = {name: [] for name in ("flanscale", "flanscale, stored", "on demand", "hugging face")}
    for _ in range(options.repeats):
        whole, alone = from_texts(tasks, options.data, options.processes)
        made["flanscale"].append(whole)
        made["flanscale, stored"].append(alone)
        made["on demand"].append(on_demand(tasks, options.data))
        made["hugging face"].append(hugging_face(tasks, options.data, options.processes))
    print(f"{'route':20} {'seconds':>8} {'examples/s':>11} {'tokens/s':>12} {'rows':>6} {'fill':>6}  rounds (s)")
    for name, rounds in made.items():
        seconds, one = statistics.median(m.seconds for m in rounds), rounds[0]
        tokens = one.input_tokens + one.target_tokens
        print(
            f"{name:20} {seconds:8.1f} {one.examples / seconds:11,.0f} {tokens / seconds:12,.0f} {one.rows:6} "
            f"{one.fill:6.3f}  {', '.join(f'{m.seconds:.1f}' for m in rounds)}"
        )
    ratios = [
        theirs.seconds / theirs.examples / (mine.seconds / mine.examples)
        for mine, theirs in zip(made["flanscale"], made["hugging face"], strict=True)
    ]
    print(
        f"\nexamples/s, flanscale over hugging face: {statistics.median(ratios):.1f}x of {[f'{r:.1f}' for r in ratios]}"
    )
    for name in ("flanscale, stored", "on demand"):
        rate = statistics.median((m.input_tokens + m.target_tokens) / m.seconds for m in made[name])
        print(f"{name}: {rate / T5_SMALL_TOKENS_PER_SECOND:,.0f}x the tokens/s that a T5-small trains at on two cores")


if __name__ == "__main__":
    main()

"""How fast does T5-small learn real instruction data, packed here and grouped by length in transformers?

One command: `python benchmarks/finetuning.py --data DIR --peer PYTHON`, see benchmarks/training.py. What is counted are
real tokens: inputs and targets with their EOS, no padding. What each side does is said in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from training import (
    EOS,
    OurStep,
    Round,
    TheirStep,
    begin,
    devices,
    our_config,
    parser_of,
    serve,
    take_turns,
)

INPUT_TOKENS, TARGET_TOKENS = 1024, 256
POOL = 2048  # examples: one block of the packer
IGNORED = -100  # label of a place without a loss in transformers


def write_pool(data: Path, file: Path) -> str:
    """Tokenise a draw of examples, every task as often as any other, cut to one row's width; says what is in it."""
    from input_pipeline import tasks_of, tokenizer_config

    from flanscale.pipeline.tokenizers import load_tokenizer

    rng = np.random.default_rng(0)
    tasks = list(tasks_of(data, ["niv2", "cot"]))
    drawn = [tasks[t][rng.integers(len(tasks[t]))] for t in rng.integers(len(tasks), size=POOL)]
    tokenizer = load_tokenizer(tokenizer_config(data))
    arrays = {}
    for side, place, width in (("input", 0, INPUT_TOKENS), ("target", 1, TARGET_TOKENS)):
        tokens = tokenizer.encode([pair[place] for pair in drawn]).first(width - 1)
        arrays[side], arrays[f"{side}_lengths"] = np.concatenate(list(tokens)).astype(np.int32), tokens.lengths
    np.savez(file, **arrays)
    means = ", ".join(f"{arrays[f'{side}_lengths'].mean():.0f} {side} tokens" for side in ("input", "target"))
    return f"{POOL} examples of {len(tasks)} tasks, on average {means}"


def read_pool(options: argparse.Namespace) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs and targets of all examples, without EOS."""
    with np.load(options.pool) as pool:
        inputs, targets = (np.split(pool[s], np.cumsum(pool[f"{s}_lengths"])[:-1]) for s in ("input", "target"))
    return inputs, targets


def ours(options: argparse.Namespace) -> tuple[dict[str, Any], Round]:
    """Rows of the packed pool in a shuffled order, as the project's loader hands them out."""
    from flanscale.pipeline.packing import pack
    from flanscale.pipeline.ragged import Ragged

    inputs, targets = read_pool(options)
    packed = pack(
        Ragged.of(inputs),
        Ragged.of(targets),
        architecture="encoder_decoder",
        input_tokens=INPUT_TOKENS,
        target_tokens=TARGET_TOKENS,
        eos_id=EOS,
    )
    order = np.random.default_rng(1).permutation(len(packed))
    batches = [packed.take(rows) for rows in np.array_split(order, len(packed) // options.rows)]
    batches = [batch for batch in batches if len(batch["encoder_segment_ids"]) == options.rows]
    step = OurStep(options, (INPUT_TOKENS, TARGET_TOKENS), options.rows, 0.0)

    def real(batch: dict[str, np.ndarray]) -> tuple[int, int]:
        segments = [batch[f"{stack}_segment_ids"] for stack in ("encoder", "decoder")]
        return sum(int((s > 0).sum()) for s in segments), sum(s.size for s in segments)

    return devices() | {"losses": step(batches[:2]), "rows": len(packed)}, _round(options, step, batches[2:], real)


def theirs(options: argparse.Namespace) -> tuple[dict[str, Any], Round]:
    """Batches as `Seq2SeqTrainingArguments(group_by_length=True)` draws them, padded to their longest."""
    from transformers.trainer_pt_utils import LengthGroupedSampler

    inputs, targets = ([np.append(piece, EOS) for piece in side] for side in read_pool(options))
    import torch

    torch.manual_seed(1)
    lengths = [len(piece) for piece in inputs]
    order = list(LengthGroupedSampler(options.examples, lengths=lengths))
    groups = [order[i : i + options.examples] for i in range(0, len(order), options.examples)]
    # The sampler goes from long to short, again and again; a round that sees but a few batches must see of all lengths.
    np.random.default_rng(1).shuffle(groups)
    batches = [_padded([inputs[i] for i in group], [targets[i] for i in group]) for group in groups]
    step = TheirStep(options, 0.0, options.peer_compile)

    def real(batch: dict[str, np.ndarray]) -> tuple[int, int]:
        places = batch["attention_mask"].size + batch["labels"].size
        return int(batch["attention_mask"].sum() + (batch["labels"] != IGNORED).sum()), places

    return step.about | {"losses": step(batches[:2])}, _round(options, step, batches[2:], real)


def _padded(inputs: list[np.ndarray], targets: list[np.ndarray]) -> dict[str, np.ndarray]:
    def fill(pieces: list[np.ndarray], value: int) -> np.ndarray:
        batch = np.full((len(pieces), max(map(len, pieces))), value, np.int64)
        for row, piece in zip(batch, pieces, strict=True):
            row[: len(piece)] = piece
        return batch

    ids = fill(inputs, 0)
    return {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64), "labels": fill(targets, IGNORED)}


def _round(options: argparse.Namespace, step: Any, batches: list[dict[str, np.ndarray]], real: Any) -> Round:
    """A round takes the next batches until it has seen as many real tokens as asked for."""
    position = 0

    def measure(number: int) -> dict[str, Any]:
        nonlocal position
        taken, tokens, places = [], 0, 0
        while tokens < options.tokens:
            taken.append(batches[position % len(batches)])
            position += 1
            here, all_places = real(taken[-1])
            tokens, places = tokens + here, places + all_places
        step(taken)
        return {"calls": len(taken), "tokens": tokens, "filled": tokens / places}

    return measure


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, help="folder with niv2/, cot/ and tokenizer/")
    parser.add_argument("--rows", type=int, default=4, help="packed rows of a step on our side")
    parser.add_argument("--examples", type=int, default=16, help="examples of a step on the peer's side")
    parser.add_argument("--tokens", type=int, default=30_000, help="real tokens of a round, at least")
    parser.add_argument("--peer-compile", action="store_true", help="torch.compile on the peer's side")
    parser.add_argument("--pool", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options, {"flanscale": ours, "transformers": theirs}[options.side])
        return
    if not options.data:
        parser.error("--data DIR: where are niv2/, cot/ and tokenizer/?")
    begin(options, parser)
    if our_config(options).model.architecture == "decoder":
        parser.error(f"--model {options.model}: the pairs of inputs and targets here are an encoder-decoder's")
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.npz"
        print(f"{options.model}, {options.precision}, {options.threads} threads; {write_pool(options.data, pool)}")
        own = ["--rows", options.rows, "--examples", options.examples, "--tokens", options.tokens, "--pool", pool]
        turns = take_turns(options, [*map(str, own), *(["--peer-compile"] if options.peer_compile else [])])
    for name, about in turns.about.items():
        filled = sum(d["filled"] for d in turns.rounds[name]) / options.rounds
        print(f"  {name:13} {filled:.1%} of all places are real tokens; {json.dumps(about)}")
    turns.show("real tokens/s")


if __name__ == "__main__":
    main()

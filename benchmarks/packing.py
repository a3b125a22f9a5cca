"""How fast are examples packed into rows, and how full are the rows, beside Grain's packers and TRL's?

One command: `python benchmarks/packing.py` (with `--data DIR` also on the lengths of Super-NaturalInstructions), in an
environment with benchmarks/requirements.txt. What each side does is said in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from input_pipeline import machine, tasks_of, tokenizer_config
from training import reuse_freed_memory

from flanscale.pipeline.batches import BLOCK_SIZE
from flanscale.pipeline.packing import pack
from flanscale.pipeline.ragged import Ragged
from flanscale.pipeline.tokenizers import load_tokenizer

INPUT_TOKENS, TARGET_TOKENS, BATCH_ROWS = 1024, 256, 64
EOS = 1


@dataclass(frozen=True)
class Pairs:
    """Token ids without EOS, short enough for the rows, so that no side has to cut."""

    inputs: Ragged
    targets: Ragged

    @property
    def tokens(self) -> int:
        """Tokens with an EOS after every input and target."""
        return int(self.inputs.lengths.sum() + self.targets.lengths.sum()) + 2 * len(self.inputs)


def flan_like(count: int) -> Pairs:
    """Random ids of log-normal lengths, mean about 143 and 18."""
    rng = np.random.default_rng(0)
    lengths = (
        np.clip(rng.lognormal(4.6, 0.9, count), 4, INPUT_TOKENS - 1),
        np.clip(rng.lognormal(2.2, 1.2, count), 1, TARGET_TOKENS - 1),
    )
    return Pairs(*(Ragged.consecutive(rng.integers(3, 32000, n.sum(), np.int32), n) for n in map(np.int64, lengths)))


def niv2(data: Path, count: int) -> Pairs:
    """Super-NaturalInstructions (definition and instance) in T5's vocabulary, a random draw of it."""
    texts = [pair for pairs in tasks_of(data, ["niv2"]) for pair in pairs]
    drawn = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:count]]
    tokenizer = load_tokenizer(tokenizer_config(data))
    inputs, targets = (tokenizer.encode([pair[side] for pair in drawn]) for side in (0, 1))
    return Pairs(inputs.last(INPUT_TOKENS - 1).take(slice(None)), targets.first(TARGET_TOKENS - 1).take(slice(None)))


# --- the packers: each gives its number of rows, having made all their arrays ----------------------------------


def ours(architecture: str, pairs: Pairs) -> int:
    rows = 0
    for start in range(0, len(pairs.inputs), BLOCK_SIZE):
        block = slice(start, start + BLOCK_SIZE)
        packed = pack(
            pairs.inputs.view(block),
            pairs.targets.view(block),
            architecture=architecture,
            input_tokens=INPUT_TOKENS,
            target_tokens=TARGET_TOKENS,
            eos_id=EOS,
        )
        for first in range(0, len(packed), BATCH_ROWS):
            rows += len(packed.take(slice(first, first + BATCH_ROWS))["decoder_positions"])
    return rows


def grain_elements(pairs: Pairs) -> list[dict[str, np.ndarray]]:
    return [
        {"inputs": np.append(x, np.int32(EOS)), "targets": np.append(y, np.int32(EOS))}
        for x, y in zip(pairs.inputs, pairs.targets, strict=True)
    ]


def grain_pack(packer: str, bins: int, threads: int, elements: list[dict[str, np.ndarray]]) -> int:
    import grain
    from grain.experimental import BestFitPackIterDataset, FirstFitPackIterDataset

    kind = {"first_fit": FirstFitPackIterDataset, "best_fit": BestFitPackIterDataset}[packer]
    read = grain.MapDataset.source(elements).to_iter_dataset(grain.ReadOptions(num_threads=threads))
    widths = {"inputs": INPUT_TOKENS, "targets": TARGET_TOKENS}
    return sum(1 for _ in kind(read, length_struct=widths, num_packing_bins=bins))


def trl_dataset(pairs: Pairs) -> Any:
    from datasets import Dataset

    ids = [np.concatenate([x, y, [EOS]]) for x, y in zip(pairs.inputs, pairs.targets, strict=True)]
    return Dataset.from_dict({"input_ids": ids})


def trl_pack(batch: int | None, dataset: Any) -> int:
    from trl import pack_dataset

    options = {"keep_in_memory": True, "load_from_cache_file": False, "batch_size": batch}
    return len(pack_dataset(dataset, INPUT_TOKENS + TARGET_TOKENS, "bfd", options))


# --- the comparison ---------------------------------------------------------------------------------------------


def fewest_rows(lengths: list[np.ndarray], widths: list[int]) -> float:
    """A number of rows that no packer can go below.

    An example that takes more than 1 - e of a row in one feature leaves only ones below e there: so rows are at least
    the examples above 1 - e, and the room that those from e to 1 - e take in a feature, for any e.
    """
    shares = [n / width for n, width in zip(lengths, widths, strict=True)]
    bounds = [
        float(np.where(big > 1 - e, 1, np.where(big < e, 0, taken)).sum())
        for big in shares
        for taken in shares
        for e in np.arange(128) / 256
    ]
    return max(*(float(share.sum()) for share in shares), *bounds)


def contestants(pairs: Pairs) -> Iterator[tuple[str, str, Callable[[], int]]]:
    """(kind of row, name, packing of all pairs)."""
    elements = grain_elements(pairs)
    yield "encoder-decoder", "flanscale", partial(ours, "encoder_decoder", pairs)
    for packer, bins in (("first_fit", 64), ("first_fit", 256), ("best_fit", 64)):
        yield "encoder-decoder", f"grain {packer} {bins} bins", partial(grain_pack, packer, bins, 0, elements)
    dataset = trl_dataset(pairs)
    yield "decoder", "flanscale", partial(ours, "decoder", pairs)
    yield "decoder", "trl bfd (its default: 1,000 a time)", partial(trl_pack, 1000, dataset)
    yield "decoder", "trl bfd (all at once)", partial(trl_pack, None, dataset)


def compare(title: str, pairs: Pairs, repeats: int) -> None:
    """Run all in turn, `repeats` times after a warm-up, and print medians and ratios."""
    count = len(pairs.inputs)
    field = list(contestants(pairs))
    rows = [pack_all() for *_, pack_all in field]
    seconds: list[list[float]] = [[] for _ in field]
    for _ in range(repeats):
        for taken, (*_, pack_all) in zip(seconds, field, strict=True):
            started = time.perf_counter()
            pack_all()
            taken.append(time.perf_counter() - started)
    inputs, targets = pairs.inputs.lengths + 1, pairs.targets.lengths + 1
    sizes = {
        "encoder-decoder": ([inputs, targets], [INPUT_TOKENS, TARGET_TOKENS]),
        "decoder": ([inputs + targets - 1], [INPUT_TOKENS + TARGET_TOKENS]),
    }
    taken_up = {kind: max(n.sum() / w for n, w in zip(*sized, strict=True)) for kind, sized in sizes.items()}
    fewest = {kind: fewest_rows(*sized) for kind, sized in sizes.items()}
    mean = f"mean {inputs.mean():.0f} + {targets.mean():.0f} with EOS"
    print(f"\n{title}: {count} pairs, {pairs.tokens / 1e6:.2f} M tokens, {mean}")
    heads = f"{'pairs/s':>10} {'Mtok/s':>7} {'rows':>6} {'fill':>6} {'of best':>7}"
    print(f"{'rows':16} {'packer':36} {heads}  flanscale over this, and of each round")
    for (kind, name, _), taken, made in zip(field, seconds, rows, strict=True):
        own = next(t for (k, n, _), t in zip(field, seconds, strict=True) if (k, n) == (kind, "flanscale"))
        ratios = [theirs / mine for theirs, mine in zip(taken, own, strict=True)]
        median = statistics.median(taken)
        speed = f"{count / median:10,.0f} {pairs.tokens / median / 1e6:7.1f}"
        quality = f"{made:6} {taken_up[kind] / made:6.3f} {fewest[kind] / made:7.3f}"
        rounds = ", ".join(f"{ratio:.1f}" for ratio in ratios)
        print(f"{kind:16} {name:36} {speed} {quality}  {statistics.median(ratios):5.1f}x  [{rounds}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, help="folder with niv2/ and tokenizer/")
    options = parser.parse_args()
    import datasets

    datasets.disable_progress_bars()
    reuse_freed_memory()
    print(machine("numpy", "grain", "datasets", "trl", "pyarrow"))
    compare("FLAN-like lengths", flan_like(options.pairs), options.repeats)
    if options.data:
        compare("Super-NaturalInstructions", niv2(options.data, options.pairs), options.repeats)


if __name__ == "__main__":
    main()

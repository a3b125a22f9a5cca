"""How fast are training examples compared with all benchmark texts, and what is found in the real collections?

One command: `python benchmarks/contamination.py --data DIR`, where DIR holds niv2/, cot/, muffin/, t0/ and the
benchmarks' folders. `--rows FILE` writes every overlap as a line of JSON, with the example's text.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

from flanscale.tasks.benchmark_texts import BenchmarkText, load_benchmarks
from flanscale.tasks.contamination import Hit, clean, report_lines
from flanscale.tasks.cot import Cot
from flanscale.tasks.guard import Guard
from flanscale.tasks.muffin import Muffin
from flanscale.tasks.niv2 import Niv2
from flanscale.tasks.reading import json_lines
from flanscale.tasks.t0sf import T0sf
from flanscale.tasks.task import Example, Skips, Task

ALL = 1_000_000
PARTS = ("niv2", "cot", "muffin", "t0sf", "other_p3")
_guard: Guard  # of a worker process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=Path)
    options = parser.parse_args()

    with timed("read the benchmarks"):
        texts = load_benchmarks(options.data)
    with timed("index them (Guard.build)"):
        guard = Guard.build(texts)
    with timed("read the tasks"):
        tasks = [load(options.data, part, name) for part in PARTS for name in names(options.data, part)]
    count = sum(len(task.examples) for task in tasks)
    characters = sum(len(text) for task in tasks for text in shown(task))
    print(
        f"{len(tasks):,} tasks, {count:,} examples, {characters / 1e6:.1f} M characters; {len(texts):,} benchmark texts"
    )
    with timed("clean, one process"):
        hits = [hit for task in tasks for hit in clean(task, guard, "drop")[1]]
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB, tasks included")
    with timed("the n-gram rule alone in plain Python, for comparison"):
        plain = plain_python(tasks, texts, guard.words)
    pooled(options.data, guard, options.processes, expected=hits)

    print("\n".join(["", *report_lines(hits), ""]))
    told = {(hit.task, hit.example) for hit in hits if hit.rule == "n-gram"}
    copies = {hit.task for hit in hits if hit.example == "*"}
    print(f"n-gram rule: {len(told)} examples; plain Python finds {sum(task not in copies for task, _ in plain)}")
    for benchmark, (items, found) in guard.coverage().items():
        print(f"{benchmark}: {found:,} of {items:,} items can be found")
    if options.rows:
        write_rows(options.rows, tasks, hits)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print wall and user CPU seconds, children's included once they have ended."""
    start, user = time.perf_counter(), user_seconds()
    yield
    print(f"{what}: {time.perf_counter() - start:.1f} s, user {user_seconds() - user:.1f} s", flush=True)


def user_seconds() -> float:
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def names(data: Path, part: str) -> list[str]:
    """Every task whose data is there, also those that no study trains on."""
    if part == "other_p3":
        return [path.name.removesuffix(".jsonl.gz") for path in sorted((data / "t0" / part).glob("*.jsonl.gz"))]
    return list(opened(data, part).files)


@lru_cache(maxsize=8)
def opened(data: Path, part: str) -> Niv2 | Cot | Muffin | T0sf:
    if part == "niv2":
        return Niv2(data / "niv2", "default", ALL, Skips(True))
    makers: dict[str, Callable[[], Cot | Muffin | T0sf]] = {
        "cot": partial(Cot, data / "cot", ALL, Skips(True)),
        "muffin": partial(Muffin, data / "muffin", ALL, Skips(True)),
        "t0sf": partial(T0sf, data / "t0", ALL, Skips(True)),
    }
    return makers[part]()


def load(data: Path, part: str, name: str) -> Task:
    if part != "other_p3":
        return opened(data, part).task(name)
    records = json_lines(data / "t0" / part / f"{name}.jsonl.gz", Skips())
    examples = [Example(f"{name}-{line}", record["prompt"], (record["completion"],)) for line, record in records]
    return Task(name, part, "rendered", "", examples)


def shown(task: Task) -> Iterator[str]:
    for example in (*task.exemplars, *task.examples):
        yield from (example.input, *example.references, example.rationale or "", *example.options)


def pooled(data: Path, guard: Guard, processes: int, expected: list[Hit]) -> None:
    """Reading and cleaning in worker processes, each with its copy of the guard."""
    work = [(part, name) for part in PARTS for name in names(data, part)]
    with timed(f"read and clean, {processes} processes, their start included"):
        context = get_context("spawn")
        with ProcessPoolExecutor(processes, context, initializer=_receive, initargs=(guard,)) as pool:
            found = [hit for hits in pool.map(partial(_clean_one, data), work, chunksize=16) for hit in hits]
    print(f"the same hits as in one process: {found == expected}")


def _receive(guard: Guard) -> None:
    global _guard
    _guard = guard


def _clean_one(data: Path, work: tuple[str, str]) -> list[Hit]:
    return clean(load(data, *work), _guard, "drop")[1]


def plain_python(tasks: list[Task], texts: list[BenchmarkText], words: int) -> set[tuple[str, str]]:
    """Examples that share an n-gram with a benchmark, by sets of tuples; ASCII rules for what a word is."""
    pattern = re.compile(r"[^\W_]+")
    items: dict[str, dict[tuple[str, ...], set[str]]] = defaultdict(lambda: defaultdict(set))
    for text in texts:
        head, units = len(pattern.findall(text.text)), pattern.findall(text.full.lower())
        for i in range(min(head, len(units) - words + 1)):
            items[text.benchmark][tuple(units[i : i + words])].add(text.item)
    known = {ngram for grams in items.values() for ngram, where in grams.items() if len(where) <= 10}
    found = set()
    for task in tasks:
        for example in task.examples:
            for part in (example.input, *example.references, example.rationale or "", *example.options):
                units = pattern.findall(part.lower())
                if any(tuple(units[i : i + words]) in known for i in range(len(units) - words + 1)):
                    found.add((task.name, example.id))
    return found


def write_rows(path: Path, tasks: list[Task], hits: list[Hit]) -> None:
    examples = {(task.name, example.id): example for task in tasks for example in (*task.exemplars, *task.examples)}
    with path.open("w", encoding="utf-8") as stream:
        for hit in hits:
            example = examples.get((hit.task, hit.example))
            row = {**vars(hit), "input": example.input if example else None}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{len(hits)} rows in {path}: {dict(Counter(hit.rule for hit in hits))}")


if __name__ == "__main__":
    main()

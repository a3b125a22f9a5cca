"""The embedded collection: compositions of digit-sequence primitives, with their intermediate results as rationale.

A task applies one to three of twelve primitives in turn to a sequence of digits: 12 + 144 + 1,728 = 1,884 tasks, of
which 48 are held out and 1,836 are for training, in groups of 9, 80, 193 and 1,554 like the paper's CoT, Muffin,
T0-SF and NIV2 (Chung et al. 2022, appendix F). Nothing is downloaded; every example is a function of (task, index).

Held-out means held out twice: no held-out composition is ever trained on, and no digit sequence asked at evaluation
ever occurs as the input of a training example.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, product
from math import prod

from flanscale.tasks.task import DataError, Example, Task

Digits = tuple[int, ...]

PRIMITIVES: dict[str, Callable[[Digits], Digits]] = {
    "reverse": lambda x: x[::-1],
    "sort": lambda x: tuple(sorted(x)),
    "descend": lambda x: tuple(sorted(x, reverse=True)),
    "rotate": lambda x: x[1:] + x[:1],
    "unrotate": lambda x: x[-1:] + x[:-1],
    "exchange": lambda x: (*x[:-2], x[-1], x[-2]),
    "pair": lambda x: (x[1], x[0], *x[2:]),
    "mirror": lambda x: x[: (len(x) + 1) // 2] + x[: len(x) // 2][::-1],
    "increment": lambda x: tuple((d + 1) % 10 for d in x),
    "decrement": lambda x: tuple((d - 1) % 10 for d in x),
    "double": lambda x: tuple(2 * d % 10 for d in x),
    "complement": lambda x: tuple(9 - d for d in x),
}
GROUP_SIZES = {"first": 9, "second": 80, "third": 193, "fourth": 1554}
HELD_OUT_SIZE = 48
LENGTH = 3
ZIPF_EXPONENT = 1.5
_HELD_OUT_INPUTS = 10  # one digit sequence in this many is for evaluation only
_LAYOUT_SEED = 2022  # fixes which compositions are held out and the order of the rest: part of the collection itself
_MASK = (1 << 64) - 1


def _mix(value: int) -> int:
    """SplitMix64's finaliser (Steele et al. 2014): 64 well-mixed bits of a counter."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _is_held_out_input(number: int) -> bool:
    return _mix(number) % _HELD_OUT_INPUTS == 0


@dataclass(frozen=True)
class _Examples(Sequence[Example]):
    """The examples of one composition, made on demand; `held_out` chooses the side of the input split."""

    operations: tuple[str, ...]
    stream: int
    held_out: bool
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]  # no slices: nobody asks for them
        if not 0 <= index < self.size:
            raise IndexError(index)
        draw = _mix(self.stream ^ _mix(index))
        while _is_held_out_input(number := draw % 10**LENGTH) != self.held_out:
            draw = _mix(draw)
        digits: Digits = tuple(number // 10**place % 10 for place in range(LENGTH))
        value, steps = digits, []
        for operation in self.operations:
            value = PRIMITIVES[operation](value)
            steps.append(f"{operation} {_spell(value)} ;")
        return Example(str(index), _spell(digits), (_spell(value),), " ".join(steps))


def _spell(digits: Digits) -> str:
    return " ".join(map(str, digits))


@cache
def _layout() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(training tasks in order, held-out tasks).

    Held out is an even draw of compositions of two and three primitives. The rest is ordered as real collections grow,
    common skills first: primitives have Zipf frequencies, tasks of one length are drawn without replacement in
    proportion to the product of their primitives' frequencies, and the lengths are interleaved.
    """
    rng = random.Random(_LAYOUT_SEED)
    frequency = {name: rank**-ZIPF_EXPONENT for rank, name in enumerate(rng.sample(list(PRIMITIVES), 12), start=1)}
    composed = [task for length in (2, 3) for task in product(PRIMITIVES, repeat=length)]
    held_out = ["-".join(task) for task in rng.sample(composed, HELD_OUT_SIZE)]
    placed: list[tuple[float, str]] = []
    for length in (1, 2, 3):
        tasks = product(PRIMITIVES, repeat=length)
        # Exponential race (Efraimidis & Spirakis 2006): ascending times are a weighted draw without replacement.
        times = {"-".join(task): rng.expovariate(prod(frequency[name] for name in task)) for task in tasks}
        drawn = [name for name in sorted(times, key=times.__getitem__) if name not in held_out]
        placed += [((rank + 0.5) / len(drawn), name) for rank, name in enumerate(drawn)]
    return tuple(name for _, name in sorted(placed)), tuple(held_out)


@dataclass(frozen=True)
class Procedural:
    """The collection; `examples_per_task` bounds both sides of the split."""

    examples_per_task: int
    name: str = "procedural"

    @property
    def groups(self) -> dict[str, list[str]]:
        train = iter(_layout()[0])
        return {group: list(islice(train, size)) for group, size in GROUP_SIZES.items()}

    @property
    def held_out(self) -> list[str]:
        return list(_layout()[1])

    @property
    def missing(self) -> list[str]:
        return []

    def task(self, name: str) -> Task:
        operations = tuple(name.split("-"))
        if not 1 <= len(operations) <= 3 or not set(operations) <= PRIMITIVES.keys():
            raise DataError(f"no task {name!r} in the procedural collection; tasks are like reverse-sort-double")
        stream = _mix(int.from_bytes(name.encode(), "little") & _MASK) ^ _mix(len(name))
        examples = _Examples(operations, stream, name in _layout()[1], self.examples_per_task)
        return Task(
            name, self.name, f"length {len(operations)}", " then ".join(operations), examples, licence="Apache-2.0"
        )

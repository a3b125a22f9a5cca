"""Which cells share a job array, and what does each array wait for? Every cell for its own parents, and no others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flanscale.orchestration.planning.plan import Cell

Jobs = frozenset[str]


@dataclass(frozen=True)
class Array:
    """Cells of one resource shape that one submission starts."""

    cells: tuple[Cell, ...]
    dependency: str = ""  # in the words of sbatch
    parallelism: int | None = None  # its share of the cap on cells that run at once


def levels(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells by the length of the longest chain of parents among them; parents come before their children in `cells`."""
    depth: dict[str, int] = {}
    for cell in cells:
        depth[cell.id] = max((depth[parent] + 1 for parent in cell.parents if parent in depth), default=0)
    return [[cell for cell in cells if depth[cell.id] == level] for level in sorted(set(depth.values()))]


def arrays(cells: Sequence[Cell], waits: Mapping[str, Jobs], sizes: Mapping[str, int], largest: int) -> list[Array]:
    """Cells of one resource shape, cut into arrays.

    Args:
        cells: in the order in which they are to start.
        waits: the Slurm jobs that a cell's unfinished parents are, by its id; not there or empty where it has none.
        sizes: of every array already submitted, by its job id.
        largest: how many elements an array may have.
    """
    groups: dict[Jobs, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(waits.get(cell.id, frozenset()), []).append(cell)
    made = [array for parent in sizes for array in _corresponding(groups, parent, sizes[parent], largest)]
    for jobs, group in groups.items():
        dependency = _afterok(jobs, sizes) if jobs else ""
        made += [Array(tuple(group[n : n + largest]), dependency) for n in range(0, len(group), largest)]
    cap = cells[0].config.cluster.parallelism
    return [replace(array, parallelism=max(1, cap // len(made)) if cap else None) for array in made]


def _corresponding(groups: dict[Jobs, list[Cell]], parent: str, size: int, largest: int) -> Iterator[Array]:
    """Arrays whose elements each wait for the element of a parent array with the same number; taken out of `groups`.

    Only where every element has equally many children, and it makes fewer arrays than one for each element.
    """
    keys = [frozenset({f"{parent}_{n}"}) for n in range(size)]
    counts = {len(groups.get(key, ())) for key in keys}
    if len(counts) != 1 or not 0 < (each := counts.pop()) < size <= largest:
        return
    for n in range(each):
        yield Array(tuple(groups[key][n] for key in keys), f"aftercorr:{parent}")
    for key in keys:
        del groups[key]


def _afterok(jobs: Collection[str], sizes: Mapping[str, int]) -> str:
    """All of these jobs; a whole array under its own id."""
    whole = {array for array, size in sizes.items() if size > 1 and all(f"{array}_{n}" in jobs for n in range(size))}
    rest = [job for job in jobs if job.split("_")[0] not in whole]
    return f"afterok:{':'.join(sorted(whole) + sorted(rest))}"

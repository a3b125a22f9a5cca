"""Which module may import which? Every wall between the rooms, held transitively, and no circle anywhere.

An import inside a function, or under TYPE_CHECKING, happens later or never: it counts where a wall says so.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import flanscale

ROOT = Path(flanscale.__file__).parents[1]
ACCELERATOR = ("jax", "flax", "optax", "orbax")
MODEL_ROOMS = ("flanscale.models", "flanscale.training", "flanscale.inference")
PLANNING = (
    *("flanscale.cli", "flanscale.config", "flanscale.orchestration", "flanscale.evaluation"),
    *("flanscale.identity", "flanscale.run", "flanscale.run_directory", "flanscale.sizing", "flanscale.tracking"),
    *("flanscale.tasks", "flanscale.schema", "flanscale.chips", "flanscale.errors", "flanscale.processes"),
)
HEAVY = ("wandb", "submitit", "pandas", "scipy", "matplotlib")
ORCHESTRATION = "flanscale.orchestration"


@dataclass(frozen=True)
class Wall:
    """Modules below `inside` never come to import anything below `outside`."""

    says: str
    inside: tuple[str, ...]
    outside: tuple[str, ...]
    lazily: bool = True  # inside functions neither


WALLS = [
    Wall("planning loads no JAX", (*PLANNING, "analysis"), (*ACCELERATOR, *MODEL_ROOMS), lazily=False),
    Wall("planning is ready before the heavy libraries", PLANNING, HEAVY, lazily=False),
    Wall("models know no task and no pipeline", ("flanscale.models",), ("flanscale.tasks", "flanscale.pipeline")),
    Wall(
        "models, pipeline, training and inference run without Hydra, W&B and submitit",
        (*MODEL_ROOMS, "flanscale.pipeline"),
        ("hydra", "omegaconf", "wandb", "submitit", "flanscale.config", ORCHESTRATION, "flanscale.tracking"),
    ),
    Wall("training knows no task", ("flanscale.training",), ("flanscale.tasks", "flanscale.evaluation")),
    Wall("tasks know no tokenizer", ("flanscale.tasks",), ("flanscale.pipeline", "tokenizers", "sentencepiece")),
    Wall("evaluation reaches no model", ("flanscale.evaluation",), (*ACCELERATOR, *MODEL_ROOMS, "flanscale.pipeline")),
]  # fmt: skip
DIRECT = {  # what is imported by these alone, also inside functions
    "flax": ("flanscale.models",),
    "wandb": ("flanscale.tracking",),
    "submitit": ("flanscale.orchestration.dispatch",),
}
FOR_ANALYSIS = ("flanscale.run_directory", "flanscale.tracking", "flanscale.errors")
LAYERS = ("running", "planning", "watching", ("keeping", "dispatch"), "steering")  # each imports those before it alone


@cache
def modules() -> dict[str, Path]:
    """Every module by its name."""
    files = [path for package in ("flanscale", "analysis") for path in (ROOT / package).rglob("*.py")]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files}
    return {name: path for path, name in names.items() if "_plugins" not in name}


@cache
def imported(name: str, lazily: bool) -> frozenset[str]:
    """The modules, ours and others, that a module imports itself."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    return frozenset(target for node in _imports(tree, lazily) for target in _targets(node))


def _imports(node: ast.AST, lazily: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if lazily or not (later or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))):
            yield from _imports(child, lazily)


def _targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.module is not None
    assert node.level == 0, "imports are absolute"
    for alias in node.names:  # a name of a package may be a module of it
        whole = f"{node.module}.{alias.name}"
        yield whole if whole in modules() else node.module


def below(name: str, rooms: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{room}.") for room in rooms)


def way(start: str, outside: Sequence[str], lazily: bool) -> list[str] | None:
    """The shortest chain of imports from a module to one of those; None where there is none."""
    chains = [[start]]
    seen = {start}
    for chain in chains:
        for target in sorted(imported(chain[-1], lazily)):
            if below(target, outside):
                return [*chain, target]
            if target in modules() and target not in seen:
                seen.add(target)
                chains.append([*chain, target])
    return None


@pytest.mark.parametrize("wall", WALLS, ids=lambda wall: wall.says)
def test_nothing_crosses_a_wall(wall: Wall) -> None:
    inside = [name for name in modules() if below(name, wall.inside)]
    assert inside
    ways = [found for name in inside if (found := way(name, wall.outside, wall.lazily))]
    assert not ways, "\n".join(" → ".join(found) for found in ways)


@pytest.mark.parametrize(("library", "rooms"), DIRECT.items())
def test_one_room_alone_imports_a_library(library: str, rooms: tuple[str, ...]) -> None:
    users = [name for name in modules() if any(below(target, (library,)) for target in imported(name, True))]
    assert users
    assert [name for name in users if not below(name, rooms)] == []


def test_analysis_reads_runs_through_their_contract_alone() -> None:
    used = {target for name in modules() if below(name, ("analysis",)) for target in imported(name, True)}
    assert [target for target in used if below(target, ("flanscale",)) and not below(target, FOR_ANALYSIS)] == []


def test_orchestration_imports_towards_running_alone() -> None:
    rank = {
        room: number for number, rooms in enumerate(LAYERS) for room in ([rooms] if isinstance(rooms, str) else rooms)
    }
    wrong = []
    for name in (name for name in modules() if below(name, (ORCHESTRATION,)) and name.count(".") > 2):
        own = name.split(".")[2]
        for target in (target for target in imported(name, True) if below(target, (ORCHESTRATION,))):
            other = target.split(".")[2]
            if own != other and rank[other] >= rank[own]:
                wrong.append(f"{name} → {target}")
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    circles = [found for name in modules() if (found := way(name, (name,), True)) and found[-1] == name]
    assert circles == [], "\n".join(" → ".join(found) for found in circles)


@pytest.mark.parametrize(
    ("rooms", "libraries"),
    [
        (PLANNING, ("jax", "flax", *HEAVY)),
        (("analysis",), ("jax", "flax", "wandb", "hydra", "submitit")),
        ((*MODEL_ROOMS, "flanscale.pipeline"), ("hydra", "omegaconf", "wandb", "submitit")),
    ],
    ids=("planning", "analysis", "training"),
)
def test_importing_them_really_loads_no_such_library(rooms: tuple[str, ...], libraries: tuple[str, ...]) -> None:
    """Also not by way of a third."""
    names = [name for name in modules() if below(name, rooms)]
    load = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
    code = f"{load}print([name for name in {libraries} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

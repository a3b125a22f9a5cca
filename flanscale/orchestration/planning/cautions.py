"""What should one know of a study before one pays? What is not here, doubtful starts, meshes that are lacking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flanscale.evaluation.opening import suite_of
from flanscale.orchestration.planning import memory
from flanscale.orchestration.planning.figures import some
from flanscale.orchestration.planning.plan import Cell, Plan
from flanscale.pipeline.settling import settled_tokenizer
from flanscale.schema import RunConfig

OF_THE_PAPER = ("flan", "rendered", "niv2", "cot", "muffin", "t0sf")


def cautions(plan: Plan) -> list[str]:
    """A line for everything that the user should see to before launching."""
    lines = [f"not here yet: {line}" for line in plan.lacking]
    if plan.lacking:
        lines.append("a launch refuses until it is; what is done already can only be told with the data")
    else:
        lines += [*_unspelt(plan), *_unasked(plan)]
    return lines + list(_doubtful_starts(plan))


def _unspelt(plan: Plan) -> list[str]:
    """Tasks whose answers a vocabulary cannot spell, where the store tells; of the largest mixture of each kind."""
    largest: dict[str, RunConfig] = {}
    for config in sorted((cell.config for cell in plan.cells), key=lambda config: config.mixture.count):
        if config.mixture.renderings and config.mixture.count:
            largest[repr((config.collection, config.cot, config.tokenizer))] = config
    if not largest:
        return []
    from flanscale.pipeline.feed import unspelt_in_store  # brings NumPy in, which a plan can mostly do without
    from flanscale.pipeline.spelling import warning

    told = [unspelt_in_store(config, settled_tokenizer(config.tokenizer)) for config in largest.values()]
    return list(dict.fromkeys(line for shares in told if shares and (line := warning(shares, len(shares)))))


def _unasked(plan: Plan) -> list[str]:
    """Lines of suites that cannot be asked here, and benchmarks of which only a part can."""
    told: dict[str, None] = {}
    suites = {id(suite): suite for suite in (suite_of(cell.config) for cell in plan.cells)}
    for suite in suites.values():
        told |= dict.fromkeys(f"not asked: {fault}" for fault in suite.faults)
        for line in suite.lines:
            if missing := line.asked.missing:
                here = len({item.subtask for item in line.asked.items})
                all_told = f"{here} of {here + len(missing)} subtasks are here"
                told[f"{line.name} is asked without {some(missing, 3)}: {all_told}"] = None
    return list(told)


def _doubtful_starts(plan: Plan) -> Iterator[str]:
    configs = [cell.config for cell in plan.cells]
    untrained = [config for config in configs if _from_nothing(config)]
    if untrained:
        yield (
            f"{len(untrained)} of {len(configs)} cells start from random parameters, where the paper finetunes"
            " pretrained ones: give init.hf=<folder>, or a `parent` stage"
        )
    named = dict.fromkeys(
        config.init.hf for config in configs if config.init.hf and "flan" in Path(config.init.hf).name
    )
    for path in named:
        yield (
            f"init.hf={path}: by its name it is finetuned on the Flan collection already, so that a task count says"
            " little; the paper starts from T5 1.1 LM-adapted (google/t5-small-lm-adapt and so on)"
        )


def _from_nothing(config: RunConfig) -> bool:
    """Whether instructions of the paper's collections are taught to, or asked of, a model that knows no language."""
    instructed = config.collection.name in OF_THE_PAPER and not config.objective.denoisers
    return instructed and config.init.hf is None and config.init.run is None


def mesh_rules(plan: Plan) -> list[str]:
    """A block for the study's `set:` with the smallest mesh of each size that does not fit on the one that it has."""
    rules = [line for cell in _one_of_each_size(plan).items() if (line := _mesh_rule(*cell))]
    return ["meshes that these sizes fit on, for the study's file:", "set:", *rules] if rules else []


def _one_of_each_size(plan: Plan) -> dict[str, Cell]:
    cells = {cell.id: cell for cell in plan.cells}
    trained = [(str(p.axes["model"]), cells[p.cell]) for p in plan.points if "model" in p.axes]
    return {model: cell for model, cell in trained if cell.config.trainer.steps}


def _mesh_rule(model: str, cell: Cell) -> str | None:
    config, chip = cell.config, cell.config.cluster.chip
    if chip is None or memory.footprint_of(config).fits(memory.CHIPS[chip].memory):
        return None
    found = memory.smallest_fit(config, chip)
    if found is None:
        return None
    axes = {"data": found.mesh.data, "fsdp": found.mesh.fsdp, "tensor": found.mesh.tensor}
    values = ", ".join(f"trainer.mesh.{axis}={size}" for axis, size in axes.items() if size > 1)
    return f"  - {{when: {{model: {model}}}, set: [{values}]}}"

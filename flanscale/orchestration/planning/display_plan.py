"""What do people see of a plan? Its cells as a table, what its rules did, and what an earlier launch had besides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flanscale.chips import CHIPS, GIB
from flanscale.orchestration.planning.cost import Estimate
from flanscale.orchestration.planning.figures import axis_title, axis_value, duration, quantity
from flanscale.orchestration.planning.grid import Axes, matches, points
from flanscale.orchestration.planning.ledger import Entry
from flanscale.orchestration.planning.memory import Compiled, Fit, model_of
from flanscale.orchestration.planning.plan import Cell, Plan, Point
from flanscale.orchestration.planning.sheet import Column, Place, Sheet
from flanscale.orchestration.planning.study import Parent, Rule, described
from flanscale.orchestration.running.repeat import Decision
from flanscale.schema import MeshConfig, RunConfig
from flanscale.sizing.memory import RESERVE, Footprint

COLOURS = {"done": "green", "wait": "cyan", "resume": "yellow", "retry": "yellow", "failed": "red"}  # of actions
MOST_NAMED = 3


def plan_table(
    plan: Plan,
    cells: Sequence[Cell],
    decisions: Mapping[str, Decision],
    estimates: Mapping[str, Estimate | None],
    footprints: Mapping[str, Footprint],
) -> Sheet:
    """What a launch would do, cell by cell; with the memory on each device where the chip is known."""
    places = _places(plan)
    columns = [
        Column("cell", worth=8),
        Column("stage", optional=True, worth=3),
        *(Column(axis_title(key), worth=7) for key in plan.study.axes),
        Column("params", right=True, worth=6),
        Column("tokens", right=True, worth=2),
        Column("FLOPs", right=True, worth=5),
        Column("GiB", right=True, optional=True, worth=6),
        Column("time", right=True, worth=6),
        Column("action"),
    ]
    by_id = {cell.id: cell for cell in plan.cells}
    rows: list[list[Place]] = []
    for cell in cells:
        decision, guess = decisions[cell.id], estimates.get(cell.id)
        reason = "" if decision.action in ("start", "done") else f": {decision.reason}"
        rows.append(
            [
                cell.id,
                str(_stage(cell, by_id)) if plan.stages else "",
                *places[cell.asks or cell.id],
                quantity(cell.cost.parameters),
                quantity(cell.cost.tokens),
                quantity(cell.cost.flops),
                _memory(cell, footprints) if footprints else "",
                duration(guess.seconds if guess else None) if decision.action != "done" else "",
                (f"{decision.action}{reason}", COLOURS.get(decision.action, "default")),
            ]
        )
    return Sheet(columns, rows)


def _stage(cell: Cell, by_id: Mapping[str, Cell]) -> int:
    """1 without parents, else the one after its parents'."""
    return 1 + max((_stage(by_id[parent], by_id) for parent in cell.parents), default=0)


def _places(plan: Plan) -> dict[str, list[str]]:
    """Each cell's values on every axis; all of them where it answers for several points, none that a parent lacks."""
    values: dict[str, dict[str, list[str]]] = {}
    for point in (*plan.points, *plan.stages):
        place = values.setdefault(point.cell, {})
        for key, value in point.axes.items():
            if axis_value(value) not in place.setdefault(key, []):
                place[key].append(axis_value(value))
    return {cell: ["/".join(place.get(key, ())) for key in plan.study.axes] for cell, place in values.items()}


def _memory(cell: Cell, footprints: Mapping[str, Footprint]) -> Place:
    """What a step takes on each device of the chip's memory, in GiB."""
    taken, chip = footprints.get(cell.id), cell.config.cluster.chip
    if taken is None or chip is None:
        return "?"
    words = f"{taken.total / GIB:.3g}/{CHIPS[chip].gib:g}"
    return words if taken.fits(CHIPS[chip].memory) else (words, "red")


def rule_lines(plan: Plan) -> list[str]:
    """How many points each exclusion removed and each rule changed; nothing where there are none."""
    study = plan.study
    product = points(study.axes, ())
    lines = []
    if study.exclude:
        left = len(plan.points)
        lines.append(f"exclude removes {len(product) - left} of {len(product)} points: {_each(study.exclude, product)}")
    if study.rules:
        lines.append(f"set changes points: {_each([rule.when for rule in study.rules], _axes(plan.points))}")
    for depth, rules in enumerate(_rules_of_stages(study.parent), start=1):
        if rules:
            where = f"{'parent.' * depth}set"
            lines.append(f"{where} changes parents: {_each([rule.when for rule in rules], _axes(plan.stages))}")
    return lines


def _rules_of_stages(stage: Parent | None) -> Iterable[tuple[Rule, ...]]:
    while stage:
        yield stage.rules
        stage = stage.parent


def _axes(places: Iterable[Point]) -> list[dict[str, object]]:
    return [place.axes for place in places]


def _each(conditions: Sequence[Axes], places: Sequence[Mapping[str, object]]) -> str:
    """Conditions, each with the number of places that it matches."""
    counts = [sum(matches(place, entry) for place in places) for entry in conditions]
    return "; ".join(f"{described(entry)} {count}" for entry, count in zip(conditions, counts, strict=True))


def removed_line(study: str, removed: Sequence[Entry]) -> str:
    """What an earlier launch had and this study has no more, and how to end it."""
    names = ", ".join(entry.run for entry in removed[:MOST_NAMED])
    more = f" and {len(removed) - MOST_NAMED} more" if len(removed) > MOST_NAMED else ""
    return f"no longer in the study, begun and unfinished: {names}{more}; flanscale cancel {study} --removed"


# --- memory -----------------------------------------------------------------------------------------------------------


def gib(size: float) -> str:
    """Bytes in GiB, three digits."""
    return f"{size / GIB:.3g}" if size < 1000 * GIB else f"{size / GIB:.0f}"


def mesh_words(mesh: MeshConfig) -> str:
    """The axes that are more than one; what they are called in overrides."""
    named = {"data": mesh.data, "fsdp": mesh.fsdp, "tensor": mesh.tensor}
    return " × ".join(f"{name} {size}" for name, size in named.items() if size > 1) or "one device"


def memory_lines(config: RunConfig, taken: Footprint, other: Fit | None) -> list[str]:
    """A step's footprint on the cell's own mesh in words and, where it does not fit, what would."""
    trainer, model, chip = config.trainer, config.model, config.cluster.chip
    settled = model_of(config).remat
    remat = model.remat if settled == model.remat else f"{model.remat} ({settled})"
    what = f"{model.name} on {mesh_words(trainer.mesh)}, {trainer.batch_rows} rows of {trainer.input_tokens} +"
    how = f"{trainer.target_tokens} tokens, {trainer.precision}, {config.optimizer.name}, model.remat={remat}"
    of = f" of {CHIPS[chip].gib:g} ({chip}; {RESERVE:.0%} of it in reserve)" if chip else ""
    fits = taken.fits(CHIPS[chip].memory) if chip else True
    lines = [
        f"{what} {how}:",
        f"  {'' if fits else 'does not fit: '}{gib(taken.total)} GiB on each device{of}: {taken.words()}",
    ]
    if not fits and other:
        lines.append(f"  would fit: {other.devices} {chip}, {gib(other.footprint.total)} GiB each: {_overrides(other)}")
    elif not fits:
        lines.append(f"  no mesh of {chip} is enough as it is; `flanscale plan` with its overrides alone shows others")
    return lines


def _overrides(fit: Fit) -> str:
    mesh = fit.mesh
    return f"trainer.mesh.data={mesh.data} trainer.mesh.fsdp={mesh.fsdp} trainer.mesh.tensor={mesh.tensor}"


def compiled_line(compiled: Compiled, taken: Footprint, memory: float) -> str:
    """The compiler's plan beside the estimate, on devices of so many bytes; a GPU's plans more without a word."""
    off = taken.total / compiled.total - 1
    beyond = f", more than the {gib(memory)} there are" if compiled.total > memory else ""
    return (
        f"  compiler ({compiled.compiler}, {compiled.seconds:.0f} s): {gib(compiled.total)} GiB on each device{beyond}:"
        f" arguments {gib(compiled.arguments)}, output {gib(compiled.output)} of which {gib(compiled.alias)} in place,"
        f" temporary {gib(compiled.temporary)}; the estimate is {off:+.0%} off"
    )


def memory_table(fits: Sequence[Fit]) -> Sheet:
    """Where a cell fits."""
    titles = ("devices", "data × fsdp × tensor", "state", "activations", "GiB on each", "of")
    rows = []
    for fit in fits:
        mesh, taken = fit.mesh, fit.footprint
        where = (fit.chip, fit.remat, str(fit.devices), f"{mesh.data} × {mesh.fsdp} × {mesh.tensor}")
        sizes = (gib(taken.state), gib(taken.activations), gib(taken.total), f"{CHIPS[fit.chip].gib:g}")
        rows.append((*where, *sizes))
    return Sheet([Column("chip"), Column("remat"), *(Column(title, right=True) for title in titles)], rows)

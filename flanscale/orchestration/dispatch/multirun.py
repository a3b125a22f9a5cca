"""What does a Hydra multirun ask? The study, plan and launch of `flanscale launch`, out of Hydra's arguments."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError, UserError
from flanscale.orchestration.dispatch.closing import print_report
from flanscale.orchestration.dispatch.launch import launch
from flanscale.orchestration.planning.grid import parse_sweep, points
from flanscale.orchestration.planning.plan import Plan, plan_points, plan_study
from flanscale.orchestration.planning.study import Study, load_study, with_overrides
from flanscale.orchestration.watching.live import open_console


def check_arguments(arguments: Sequence[str]) -> None:
    """Find what is wrong with the arguments of `--multirun` before Hydra does, which takes many lines to say it.

    Raises:
        ConfigError: no such study, or a first point that cannot be run; the others are composed by the plan alone.
    """
    study, overrides = _study_of(arguments)
    asked = with_overrides(study, overrides)
    plan_points(asked, overrides, points(asked.axes, asked.exclude)[:1], Composer())


def plan_arguments(arguments: Sequence[str]) -> Plan:
    """The plan of `--multirun` with these overrides.

    Raises:
        ConfigError: no such study, or two of them; what `plan_study` raises.
    """
    study, overrides = _study_of(arguments)
    return plan_study(study, overrides, Composer())


def _study_of(arguments: Sequence[str]) -> tuple[Study, list[str]]:
    """The study that `+sweep=NAME` names, or one without a name, and the other arguments."""
    names = [value for key, value in map(_split, arguments) if key == "sweep"]
    overrides = [text for text in arguments if _split(text)[0] != "sweep"]
    if len(names) > 1:
        raise ConfigError(f"+sweep is given {len(names)} times: a multirun is one study")
    unnamed = Study(_name(overrides), MappingProxyType({}), " ".join(overrides))
    return load_study(names[0]) if names else unnamed, overrides


def plan_batch(batch: Sequence[Sequence[str]]) -> Plan:
    """The plan whose points are exactly these lists of overrides, as a sweeper other than flanscale's makes them.

    Raises:
        ConfigError: what `plan_study` raises.
    """
    grid = [{key: values[0] for key, values in map(parse_sweep, overrides)} for overrides in batch]
    axes: dict[str, tuple[Any, ...]] = {}
    for point in grid:
        for key, value in point.items():
            axes[key] = axes.get(key, ()) if value in axes.get(key, ()) else (*axes.get(key, ()), value)
    words = [" ".join(overrides) for overrides in batch]
    return plan_points(Study(_name(words), MappingProxyType(axes), "multirun"), (), grid, Composer())


def launch_planned(make: Callable[[], Plan]) -> None:
    """Plan and launch as the command line does, and end the process as it does when something went wrong.

    Raises:
        SystemExit: a cell ended without a result (1), it was interrupted, or nothing could be launched (2).
    """
    try:
        with _hydra_set_aside():
            plan = make()
        again = shlex.join(["python", "-m", "flanscale.run", *sys.argv[1:]])
        code = launch(plan, open_console(), again=again, report=print_report)
    except UserError as error:  # Hydra would wrap it in a traceback
        print(f"flanscale: {error}", file=sys.stderr)
        code = 2
    if code:
        raise SystemExit(code)


@contextmanager
def _hydra_set_aside() -> Iterator[None]:
    """Let flanscale compose cells while the Hydra that runs this multirun waits: there can be only one at a time."""
    from hydra.core.global_hydra import GlobalHydra

    instance = GlobalHydra.instance()
    waiting = instance.hydra
    instance.clear()
    try:
        yield
    finally:
        instance.hydra = waiting


def _split(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key.lstrip("+"), value


def _name(words: Sequence[str]) -> str:
    return f"multirun-{hashlib.sha256(repr(sorted(words)).encode()).hexdigest()[:8]}"

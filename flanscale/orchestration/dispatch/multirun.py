"""What does a Hydra multirun ask? The study, plan and launch of `flanscale launch`, out of Hydra's arguments."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError, ending_in_one_line
from flanscale.orchestration.dispatch.closing import print_report
from flanscale.orchestration.dispatch.launch import launch
from flanscale.orchestration.dispatch.plain_hydra import STUDY_KEY
from flanscale.orchestration.planning.evaluations import with_evaluations
from flanscale.orchestration.planning.grid import parse_sweep
from flanscale.orchestration.planning.plan import Plan, plan_points, plan_study
from flanscale.orchestration.planning.study import Study, load_study
from flanscale.orchestration.watching.live import open_console


def plan_arguments(arguments: Sequence[str]) -> Plan:
    """The plan of `--multirun` with these overrides, see `plain_hydra.as_typed`.

    Raises:
        ConfigError: no such study, or two of them; what `plan_study` raises.
    """
    study, overrides = _study_of(arguments)
    return with_evaluations(plan_study(study, overrides, Composer()))


def _study_of(arguments: Sequence[str]) -> tuple[Study, list[str]]:
    """The study that `+sweep=NAME` names, or one without a name, and the other arguments."""
    read = {text.lstrip("+"): parse_sweep(text) for text in arguments}
    names = [values[0] for key, values in read.values() if key == STUDY_KEY]
    overrides = [text for text, (key, _) in read.items() if key != STUDY_KEY]
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
    if any(STUDY_KEY in point for point in grid):
        raise ConfigError("+sweep=NAME is planned by hydra/sweeper=flanscale alone; leave the sweeper out")
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
    with ending_in_one_line():
        code = launch(make(), open_console(), again=shlex.join(sys.orig_argv), report=print_report)
    if code:
        raise SystemExit(code)


def _name(words: Sequence[str]) -> str:
    return f"multirun-{hashlib.sha256(repr(sorted(words)).encode()).hexdigest()[:8]}"

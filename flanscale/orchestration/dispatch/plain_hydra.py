"""How is Hydra given what a user types at `python -m flanscale.run`? Read as `flanscale launch` reads it, and typed.

Hydra's own reading would not do: 1.10 is a number to it, whatever the key, and a key of a mapping needs a plus.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import NoReturn, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flanscale.config.checks import GROUPS
from flanscale.config.compose import Composer, register_schema
from flanscale.config.overrides import as_override, check_hydra, literal, parse_override
from flanscale.config.places import conf_path, search_too
from flanscale.errors import ConfigError, one_line
from flanscale.orchestration.planning.grid import parse_sweep
from flanscale.orchestration.planning.study import register_sweeps, study_file

STUDY_KEY = "sweep.name"  # where Hydra keeps what +sweep=NAME names


def main_of(run_cell: Callable[[list[str]], None]) -> None:
    """Do what the command line asks of Hydra: a cell, a multirun, a configuration, a help, a completion.

    Args:
        run_cell: runs one cell by its overrides.

    Raises:
        ConfigError: a wrong option or override, or whatever Hydra refuses.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException

    @wraps(run_cell)  # Hydra calls the program by the name of its module
    def task(_: DictConfig) -> None:
        overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
        run_cell(cast(list[str], overrides))

    asked = _asked(sys.argv[1:])
    register_schema()
    register_sweeps()
    if asked.cfg == "job":
        _show_cell(asked)
        return
    if not asked.shell_completion:
        options = [text for text in sys.argv[1:] if text not in asked.overrides]
        sys.argv[1:] = [*(as_typed(text, sweeps=_is_multirun(asked)) for text in asked.overrides), *options]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it raises what it would else print in many lines
    try:
        hydra.main(version_base="1.3", config_path=str(conf_path()), config_name="run")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error) or one_line(error.__cause__ or error)) from error


def as_typed(text: str, *, sweeps: bool) -> str:
    """An override as Hydra is to read it: each of its values as the schema types it.

    Args:
        text: as typed by the user.
        sweeps: it may have several values.

    Raises:
        ConfigError: what `parse_sweep` or, without sweeps, `parse_override` raises; no such study.
    """
    if _is_hydras(text):
        check_hydra(text)
        return text
    name, _, value = text.lstrip("+").partition("=")
    if name == "sweep":
        if not sweeps:
            raise ConfigError("+sweep=NAME is a study of many cells: add --multirun")
        study_file(value)
        return as_override(f"++{STUDY_KEY}", value)
    if sweeps:
        key, values = parse_sweep(text)
    else:
        key, only = parse_override(text)
        values = (only,)
    chosen = key in GROUPS and not isinstance(values[0], dict)
    return f"{'' if chosen else '++'}{key}={','.join(map(literal, values))}"


def _asked(arguments: Sequence[str]) -> Namespace:
    """The command line, by Hydra's own parser."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse
    asked = parser.parse_intermixed_args(arguments)
    if asked.experimental_rerun:
        raise ConfigError("--experimental-rerun: no pickles are kept here; `flanscale rerun RUN` runs a cell again")
    if asked.config_name or asked.config_path:
        raise ConfigError("a cell is composed from conf/run.yaml: --config-dir DIR adds config groups of your own")
    if asked.run + asked.multirun + asked.shell_completion + bool(asked.cfg) + bool(asked.info) > 1:
        raise ConfigError("--run, --multirun, --cfg, --info and --shell-completion: only one at a time")
    if asked.config_dir is not None:
        folder = Path(asked.config_dir)
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder")
        search_too(folder)
    return asked


def _refuse(message: str) -> NoReturn:
    """In place of argparse's many lines."""
    raise ConfigError(f"{message}; --help tells what there is")


def _is_multirun(asked: Namespace) -> bool:
    return asked.multirun or "hydra.mode=MULTIRUN" in asked.overrides


def _is_hydras(text: str) -> bool:
    return text.lstrip("+~").startswith(("hydra.", "hydra/"))


def _show_cell(asked: Namespace) -> None:
    """Print what a cell is composed of."""
    config = OmegaConf.structured(Composer().compose([text for text in asked.overrides if not _is_hydras(text)]))
    shown = OmegaConf.select(config, asked.package) if asked.package else config
    if not OmegaConf.is_config(shown):
        raise ConfigError(f"--package {asked.package}: no such section")
    print(OmegaConf.to_yaml(shown), end="")

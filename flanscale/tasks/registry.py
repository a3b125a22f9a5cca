"""Which collection does a cell learn from, and where does its data lie? The one place that knows them all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flanscale.errors import DataError
from flanscale.schema import CollectionConfig, DataConfig, PathsConfig
from flanscale.tasks.catalog import COUNTS
from flanscale.tasks.niv2 import FLAN_SPLIT
from flanscale.tasks.on_disk import FOLDERS, _what_to_give
from flanscale.tasks.task import Collection, Skips

if TYPE_CHECKING:
    from flanscale.tasks.benchmark_texts import BenchmarkText
    from flanscale.tasks.templates import Wordings


def open_collection(
    config: CollectionConfig, data: DataConfig, *, skip_bad: bool = False, cache: str = PathsConfig.cache
) -> Collection:
    """The collection that a configuration names; no task is read before it is asked for.

    Args:
        skip_bad: leave out malformed records, counted in the collection's `skips`, instead of failing.
        cache: folder for indexes of large files.

    Raises:
        DataError: no folder for it; for flan, none for any of its four.
    """
    if config.name == "procedural":
        from flanscale.tasks.procedural import Procedural

        return Procedural(config.examples_per_task, config.domain, config.difficulty)
    skips = Skips(skip_bad)
    if config.name == "text":
        from flanscale.tasks.text import Text

        return Text(data_folder(data, "text"), config.examples_per_task, config.task_per_file, skips)
    if config.name != "flan":
        return _open(config.name, config.split, config.examples_per_task, data, skips, cache)
    from flanscale.tasks.flan import Flan

    here = [name for name in COUNTS if _find(data, FOLDERS[name])]
    if not here:
        raise DataError(
            "collection=flan has none of its data: give data.root=<folder that holds cot/, muffin/, t0/ and niv2/>,"
            " or those folders one by one as data.cot, data.muffin, data.t0 and data.niv2"
        )
    return Flan([_open(name, FLAN_SPLIT, config.examples_per_task, data, skips, cache) for name in here], skips)


def open_wordings(templates: str, data: DataConfig) -> Wordings:
    """The wordings called `own`, or `flan` from data.flan, else from `flan/` under data.root.

    Raises:
        DataError: no such wordings, or their file is not there or is not FLAN's.
    """
    from flanscale.tasks.templates import load_wordings

    return load_wordings(templates, data_folder(data, "flan") if templates == "flan" else None)


def open_benchmarks(data: DataConfig) -> list[BenchmarkText]:
    """The texts that training must not hold: of data.benchmarks, else of the benchmarks' folders under data.root.

    Raises:
        DataError: there are none.
    """
    from flanscale.tasks.benchmark_texts import load_benchmarks

    if data.benchmarks is None and data.root is not None and _find(data, "benchmarks") is None:
        return load_benchmarks(Path(data.root).expanduser())
    return load_benchmarks(data_folder(data, "benchmarks"))


def data_folder(data: DataConfig, key: str) -> Path:
    """The folder (or file) that a key of `data` names, else the folder of its name under data.root.

    Raises:
        DataError: there is none; the message names both keys.
    """
    folder = _find(data, key)
    if folder is None:
        raise DataError(f"no data: {_what_to_give(data, key)}")
    return folder


def _open(name: str, split: str, examples_per_task: int, data: DataConfig, skips: Skips, cache: str) -> Collection:
    folder = data_folder(data, FOLDERS[name])
    if name == "niv2":
        from flanscale.tasks.niv2 import Niv2

        return Niv2(folder, split, examples_per_task, skips)
    if name == "cot":
        from flanscale.tasks.cot import Cot

        return Cot(folder, examples_per_task, skips)
    if name == "muffin":
        from flanscale.tasks.muffin import Muffin

        return Muffin(folder, examples_per_task, skips)
    if name == "t0sf":
        from flanscale.tasks.t0sf import T0sf

        return T0sf(folder, examples_per_task, skips)
    if name == "rendered":
        from flanscale.tasks.rendered import Rendered

        return Rendered(folder, examples_per_task, skips, Path(cache).expanduser())
    from flanscale.tasks.jsonl import Jsonl

    return Jsonl(folder, examples_per_task, skips)


def _find(data: DataConfig, key: str) -> Path | None:
    given: str | None = getattr(data, key)
    if given is not None:
        path = Path(given).expanduser()
        if not path.exists():
            raise DataError(f"data.{key}={given}: no such file or folder")
        return path
    if data.root is None:
        return None
    root = Path(data.root).expanduser()
    if not root.is_dir():
        raise DataError(f"data.root={data.root}: no such folder")
    return root / key if (root / key).is_dir() else None

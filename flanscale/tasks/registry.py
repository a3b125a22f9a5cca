"""Which collection does a cell learn from, which one asks it, and where do their data lie? Here all are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flanscale.errors import DataError
from flanscale.schema import CollectionConfig, DataConfig, EvaluationConfig, PathsConfig, RunConfig
from flanscale.tasks.apart import Apart
from flanscale.tasks.catalog import COUNTS
from flanscale.tasks.niv2 import FLAN_SPLIT
from flanscale.tasks.on_disk import FOLDERS, _what_to_give
from flanscale.tasks.task import Collection, Skips

if TYPE_CHECKING:
    from flanscale.tasks.benchmark_texts import BenchmarkText
    from flanscale.tasks.templates import Wordings

HELD_OUT = "held_out"
"""What a suite calls the held-out tasks of `evaluation.collection`."""
ASKED_BY_NIV2 = ("cot", "muffin", "t0sf", "rendered")
"""Collections without held-out tasks of their own."""


def open_training(config: RunConfig) -> Collection:
    """What a cell learns from: its collection, less the tasks that another one asks it or keeps for that.

    Raises:
        DataError: as `open_collection`, or as `open_evaluation` where anything is asked.
    """
    whole, name = _own(config), asked_by(config)
    if asks_itself(config):
        return whole
    if not asks_held_out(config.evaluation) and not _is_here(name, config.data):
        return whole  # asks nothing, and nobody knows what others would
    asked = open_evaluation(config)
    why = f"held out for evaluation: {name} asks it"
    return Apart(whole, {**asked.reserved, **dict.fromkeys(asked.held_out, why)})


def open_evaluation(config: RunConfig, name: str | None = None) -> Collection:
    """The collection whose held-out tasks a cell is asked, or the one of that name.

    Raises:
        DataError: no folder for it.
    """
    name = name or asked_by(config)
    if name == _name(config.collection):
        return _own(config)
    if not _is_here(name, config.data):
        raise DataError(
            f"the evaluation asks held-out tasks of {name}, whose data are not here:"
            f" {_what_to_give(config.data, FOLDERS[name])}, or choose evaluation=none"
        )
    domain = "letters" if name == "procedural_letters" else "digits"
    other = CollectionConfig(name.removesuffix("_letters"), domain=domain)
    return open_collection(other, config.data, skip_bad=config.mixture.skip_bad, cache=config.paths.cache)


def asks_held_out(evaluation: EvaluationConfig) -> bool:
    """Whether the suite has a line of held-out tasks."""
    return any(line.split("/", 1)[0] == HELD_OUT for line in evaluation.asks)


def asked_by(config: RunConfig) -> str:
    """The name of the collection whose held-out tasks a cell is asked."""
    if config.evaluation.collection is not None:
        return config.evaluation.collection
    return "niv2" if config.collection.name in ASKED_BY_NIV2 else _name(config.collection)


def asks_itself(config: RunConfig) -> bool:
    """Whether a cell is asked held-out tasks of the collection that it learns from."""
    return asked_by(config) == _name(config.collection)


def _is_here(name: str, data: DataConfig) -> bool:
    """Whether a collection has a folder here, or needs none."""
    return name not in FOLDERS or _find(data, FOLDERS[name]) is not None


def _own(config: RunConfig) -> Collection:
    return open_collection(config.collection, config.data, skip_bad=config.mixture.skip_bad, cache=config.paths.cache)


def _name(collection: CollectionConfig) -> str:
    return f"{collection.name}_letters" if collection.domain == "letters" else collection.name


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
    if config.name == "procedural_text":
        from flanscale.tasks.procedural_text import ProceduralText

        return ProceduralText(config.examples_per_task)
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
            " or those folders one by one as data.cot, data.muffin, data.t0 and data.niv2;"
            " `flanscale tasks fetch flan --to data --accept-licence` brings them for data.root=data"
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


def benchmark_folder(data: DataConfig, name: str) -> Path:
    """The folder of a benchmark that is read from files: under data.benchmarks, else under data.root.

    Raises:
        DataError: there is none.
    """
    for folder in (_find(data, "benchmarks"), data.root and Path(data.root).expanduser()):
        if folder and (folder / name).is_dir():
            return folder / name
    raise DataError(f"no data of {name}: give data.benchmarks=<a folder that holds {name}/>, or data.root=<such a one>")


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

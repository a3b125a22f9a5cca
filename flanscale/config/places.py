"""Where do configuration files lie? The shipped folders, and those of the user's own beside them."""

from __future__ import annotations

from pathlib import Path

_given: list[Path] = []


def conf_path() -> Path:
    """The folder of config groups: inside the installed package, or at the clone's top level."""
    return _shipped("conf")


def sweeps_path() -> Path:
    """The folder of study files: inside the installed package, or at the clone's top level."""
    return _shipped("sweeps")


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def search_too(folder: Path) -> None:
    """Look for config groups in a folder that the command line names, for as long as this process lives."""
    _given.append(folder.absolute())


def own_folders() -> list[Path]:
    """The user's own: those of the command line, and `conf/` in the working directory."""
    folders = dict.fromkeys([*_given, Path.cwd() / "conf"])
    return [folder for folder in folders if folder.is_dir() and folder.resolve() != conf_path()]


def group_files(group: str) -> dict[str, Path]:
    """The file of every choice of a config group, by its name; the user's own are found beside the shipped ones."""
    folders = [conf_path(), *reversed(own_folders())]
    return {file.stem: file for folder in folders for file in sorted((folder / group).glob("*.yaml"))}


def available(group: str) -> list[str]:
    """The choices of a config group."""
    return sorted(group_files(group))

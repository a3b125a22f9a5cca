"""How does Hydra read the config groups of the user's own? Before the shipped ones, and as strictly as study files.

Two plugins of Hydra, which this project's programs register and no other program of the environment meets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin

from flanscale.config.assignment import typed
from flanscale.config.checks import GROUPS, check_key
from flanscale.config.places import conf_path, own_folders
from flanscale.config.strict_yaml import read_yaml
from flanscale.errors import ConfigError


class OwnFolders(SearchPathPlugin):
    """Puts the user's own folders on the path on which Hydra looks for configuration."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """See Hydra."""
        for folder in own_folders():
            search_path.prepend("own", f"own://{folder}", SearchPathQuery(provider="main"))


class OwnFiles(FileConfigSource):
    """Reads the files of those folders."""

    @staticmethod
    def scheme() -> str:
        """How a path of this kind begins."""
        return "own"

    def load_config(self, config_path: str) -> ConfigResult:
        """One file, as Hydra reads it.

        Raises:
            ConfigError: it is not strict YAML, has a key or value that the schema has not, or a shipped file's name.
        """
        name = self._normalize_file_name(config_path)
        path, shipped = Path(self.path) / name, conf_path() / name
        if shipped.is_file() and shipped.read_bytes() != path.read_bytes():
            raise ConfigError(f"{path}: flanscale has a conf/{name} of its own; give this file another name")
        content = read_yaml(path)
        result = super().load_config(config_path)
        try:
            _check(content, result.header.get("package") or str(Path(name).parent).replace("/", "."))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        return result


def _check(content: Any, package: str) -> None:
    """Raise `ConfigError` unless the content of a file fits the section of the schema where it belongs."""
    if package.split(".")[0] in GROUPS and isinstance(content, dict):
        for name, value in content.items():
            if name != "defaults":
                check_key(f"{package}.{name}")
                typed(f"{package}.{name}", value)

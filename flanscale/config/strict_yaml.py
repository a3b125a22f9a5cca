"""How is a file of the user's read so that what it means is certain? YAML without its traps, mistakes in one line."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from flanscale.errors import ConfigError


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: it cannot be read, is not YAML, or gives a key twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {_where(error)}") from error


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and numbers to base 8 or 60, and reads 1e-4 as the number it is."""

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number whose digits are what they look like."""
        text = node.value
        number = self.construct_yaml_int(node) if node.tag.endswith(":int") else self.construct_yaml_float(node)
        if ":" in text or (node.tag.endswith(":int") and re.fullmatch(r"[-+]?0[0-9_]+", text)):
            told = f"{text} is {number} in YAML; write {number}, or '{text}' where text is meant"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
        return number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


for kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{kind}", _StrictLoader.construct_number)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _where(error: yaml.YAMLError) -> str:
    """A YAML error in one line, with its line number."""
    problem = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)

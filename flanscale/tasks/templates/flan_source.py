"""What do FLAN's templates say? Read from the user's copy: a JSON table, or FLAN's `templates.py`, which is not run."""

from __future__ import annotations

import ast
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from flanscale.errors import DataError

TABLES = ("PATTERNS", "FEWSHOT_PATTERNS", "INLINE_FS_PATTERNS")
_PLACES = ("templates.json.gz", "templates.json", "templates.py", "flan/v2/templates.py")
_FEW_SHOT_KEYS = {
    "inputs", "targets", "inputs_prefix", "targets_prefix", "x_y_delimiter", "example_separator", "final_suffix",
    "input_pattern",
}  # fmt: skip

Tables = dict[str, dict[str, list[Any]]]


def read_flan(path: Path) -> Tables:
    """The three tables: dataset → [[input, target], …], for few-shot dataset → [{inputs, targets, …}, …].

    Raises:
        DataError: no such file, or not FLAN's templates.
    """
    if path.is_dir():
        found = [path / place for place in _PLACES if (path / place).is_file()]
        if not found:
            raise DataError(f"data.flan={path}: holds none of {', '.join(_PLACES)}")
        path = found[0]
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"data.flan={path}: not readable: {str(error).splitlines()[0]}") from error
    try:
        tables = _from_python(text) if path.suffix == ".py" else json.loads(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"data.flan={path}: not FLAN's templates: {str(error).splitlines()[0]}") from error
    _check(tables, path)
    return {name: tables[name] for name in TABLES}


def _from_python(text: str) -> Tables:
    """Assigned constants only: `TABLE = {…}` and `TABLE[key] = TABLE[other]`; every other statement is passed over."""
    tables: Tables = {}
    defaults: dict[str, Any] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and node.name == "FewShotPattern":
            defaults = {
                field.target.id: ast.literal_eval(field.value)
                for field in node.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value is not None
            }
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Name) and target.id in TABLES and isinstance(value, ast.Dict):
            tables[target.id] = {
                ast.literal_eval(key): _rows(rows, defaults)
                for key, rows in zip(value.keys, value.values, strict=True)
                if key is not None
            }
        elif (entry := _entry(target)) and (source := _entry(value)):
            tables[entry[0]][entry[1]] = tables[source[0]][source[1]]
    return tables


def _entry(node: ast.expr) -> tuple[str, str] | None:
    """(table, key) of `TABLE["key"]`."""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in TABLES:
        return node.value.id, ast.literal_eval(node.slice)
    return None


def _rows(node: ast.expr, defaults: dict[str, Any]) -> list[Any]:
    if not isinstance(node, ast.List):
        raise ValueError(f"line {node.lineno}: expected a list of templates")
    return [
        defaults | {keyword.arg: ast.literal_eval(keyword.value) for keyword in row.keywords if keyword.arg}
        if isinstance(row, ast.Call)
        else list(ast.literal_eval(row))
        for row in node.elts
    ]


def _check(tables: Any, path: Path) -> None:
    if not isinstance(tables, dict) or not all(isinstance(tables.get(name), dict) for name in TABLES):
        raise DataError(f"data.flan={path}: not FLAN's templates: expected the tables {', '.join(TABLES)}")
    for name in TABLES:
        fits = _is_few_shot if name == "FEWSHOT_PATTERNS" else _is_pair
        for key, rows in tables[name].items():
            if not isinstance(rows, list) or not all(fits(row) for row in rows):
                raise DataError(f"data.flan={path}: {name}[{key!r}] is no list of FLAN templates")


def _is_pair(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(isinstance(text, str) for text in row)


def _is_few_shot(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(key), str) for key in _FEW_SHOT_KEYS)

"""What does an override say? Read in Hydra's grammar and typed by the schema at once, whoever asks."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from flanscale.config.assignment import typed
from flanscale.config.checks import check_key, is_text, keeps_digits
from flanscale.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

BARE = "_/-\\+.$%*@?|:, '\""  # what may stand in a value without quotes, besides letters and digits
PLAIN_WORD = re.compile(r"(?!(?i:true|false|null|nan|inf|infinity)$)[A-Za-z_][A-Za-z0-9_./-]*")
_ESCAPED = re.compile(r"(\\*)('|\Z)")  # what stands before a quote has a meaning of its own
OTHER_LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm", "slurm", "ray", "rq")
OTHER_SWEEPERS = ("optuna", "ax", "nevergrad", "orion")


@cache
def parse_override(text: str) -> tuple[str, Any]:
    """Split one Hydra override into its key and its value, typed by the schema.

    Raises:
        ConfigError: not an override, a sweep over several values, a key that does not exist, a value of another type.
    """
    override = read_override(text)
    if override.is_sweep_override():
        raise ConfigError(
            f"{text!r} lists several values; one cell takes one (sweep with `flanscale launch` or --multirun)"
        )
    return override.key_or_group, typed(override.key_or_group, override.value())


def read_override(text: str) -> Override:
    """One override in Hydra's grammar, sweeps included, of a key that exists.

    Raises:
        ConfigError: not an override, a deletion, a package, a key that does not exist.
    """
    from hydra.errors import HydraException

    try:
        override = _parse(text)
    except HydraException as error:
        raise ConfigError(_unreadable(text)) from error
    if override.is_delete():
        raise ConfigError(f"{text!r}: a key cannot be deleted; set it instead, e.g. {override.key_or_group}=null")
    check_key(override.key_or_group)
    if override.package is not None:
        raise ConfigError(f"{text!r}: a group has one place; leave out @{override.package}")
    return override


def check_hydra(text: str) -> None:
    """Raise `ConfigError` for a setting of Hydra that chooses what flanscale has in its own way."""
    key, _, value = text.lstrip("+").partition("=")
    if key == "hydra.searchpath":
        raise ConfigError(f"{text}: --config-dir DIR adds config groups of your own, as does conf/ where you are")
    if key == "hydra/launcher" and value in OTHER_LAUNCHERS:
        raise ConfigError(
            f"{text}: flanscale launches cells itself: cluster=slurm submits them,"
            " cluster=local cluster.parallelism=N runs N at once here"
        )
    if key == "hydra/sweeper" and value in OTHER_SWEEPERS:
        raise ConfigError(
            f"{text}: flanscale searches nothing; list the values, e.g. optimizer.learning_rate=1e-4,1e-3"
        )


def as_override(key: str, value: Any) -> str:
    """One value as an override in Hydra's grammar."""
    return f"{key}={literal(value)}"


def literal(value: Any) -> str:
    """A value in Hydra's grammar, texts in quotes wherever they could be taken for something else."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not PLAIN_WORD.fullmatch(value):
        return f"'{_ESCAPED.sub(_escape, value)}'"
    if isinstance(value, list | tuple):
        return f"[{','.join(literal(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{literal(item)}' for key, item in value.items())}}}"
    return str(value)


def _escape(found: re.Match[str]) -> str:
    backslashes, quote = found.groups()
    return backslashes * 2 + ("\\'" if quote else "")


def _parse(text: str) -> Override:
    """As Hydra's parser does, but where texts may stand the text is kept: 1.10 is no number there, nor true a truth."""
    from hydra.core.override_parser.overrides_parser import create_functions
    from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
    from hydra.grammar.gen.OverrideLexer import CommonTokenStream, InputStream, OverrideLexer
    from hydra.grammar.gen.OverrideParser import OverrideParser

    class Visitor(HydraOverrideVisitor):
        key = ""

        def visitKey(self, ctx: Any) -> Any:
            key = super().visitKey(ctx)
            self.key = key.key_or_group
            return key

        def visitPrimitive(self, ctx: Any) -> Any:
            value = super().visitPrimitive(ctx)
            keeps = is_text if isinstance(value, bool) else keeps_digits
            return ctx.getText().strip() if isinstance(value, int | float) and keeps(self.key) else value

    lexer = OverrideLexer(InputStream(text))
    parser = OverrideParser(CommonTokenStream(lexer))
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(HydraErrorListener())
    override: Override = Visitor(create_functions()).visit(parser.override())
    override.input_line = text
    override.validate()
    return override


def _unreadable(text: str) -> str:
    key, equals, value = text.partition("=")
    odd = sorted({c for c in value if c not in BARE and not (c.isascii() and c.isalnum())})
    if not equals or not odd:
        return f"{text!r} is not an override; expected key=value, e.g. trainer.steps=500, or key=value,value"
    inside = [c for c in odd if c not in "[]{}"]
    if inside and value[0] + value[-1] in ("[]", "{}"):
        example = '["a=b"]' if value[0] == "[" else '{a: "a=b"}'
        return (
            f"{text!r} is not an override: a text with {' '.join(inside)} in it must stand in quotes of its own,"
            f" e.g. '{key}={example}'"
        )
    quote = "'" if '"' in value else '"'
    shell = "'" if quote == '"' else '"'
    return (
        f"{text!r} is not an override: {' '.join(odd)} must stand in quotes: {shell}{key}={quote}{value}{quote}{shell}"
    )

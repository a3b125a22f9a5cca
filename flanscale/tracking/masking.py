"""What must not be written down? Values that look like keys, tokens and passwords are replaced by `***`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

MASK = "***"
_SECRET = r"(?:[_-]?key|secrets?|token|passw(?:or)?d|passphrase|credentials?|authori[sz]ation)"  # input_tokens is none
_NAME = re.compile(rf"{_SECRET}$", re.IGNORECASE)
_ASSIGNED = re.compile(rf"([\w.\-]*{_SECRET}[\"']?\s*[=:]\s*)([^\s,;&}}\]]+)", re.IGNORECASE)
_IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.\-]*://)[^/\s@]+@")
_KNOWN = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|gh[opsu]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_\-]{20,}|AKIA[A-Z0-9]{16})\b")
_WANDB_KEY = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")


def masked(text: str) -> str:
    """A text without `key=value` secrets, passwords in addresses and tokens of known forms."""
    return _KNOWN.sub(MASK, _IN_URL.sub(rf"\1{MASK}@", _ASSIGNED.sub(rf"\1{MASK}", text)))


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets, those that follow their option as a word of their own included."""
    kept: list[str] = []
    for before, text in zip(["", *arguments], arguments, strict=False):
        follows = before.startswith("-") and "=" not in before and is_secret(before.lstrip("-"))
        kept.append(MASK if follows or _WANDB_KEY.fullmatch(text) else masked(text))
    return kept


def is_secret(name: str) -> bool:
    """Whether a variable or option of this name holds a secret."""
    return _NAME.search(name) is not None


def without_secrets(value: Any, name: str = "") -> Any:
    """A configuration as plain values, its secrets masked."""
    if isinstance(value, dict):
        return {key: without_secrets(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    if isinstance(value, str):
        return MASK if is_secret(name) else masked(value)
    return value

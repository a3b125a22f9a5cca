"""Where is the vocabulary file? Found when a study is planned, so that no queued cell can miss it; or trained here."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flanscale.errors import VocabularyError
from flanscale.run_directory import write_atomically

FILES = {"sentencepiece": "t5.spiece.model", "huggingface": "tokenizer.json"}
"""Tokenizer → the file looked for where none is named."""

log = logging.getLogger(__name__)


def find_vocabulary(
    path: str | None, *, near: str | None, root: str | None = None, tokenizer: str = "sentencepiece"
) -> Path:
    """The vocabulary file: the path given, or the tokenizer's usual file in a folder `tokenizer/` among the data.

    Args:
        path: tokenizer.vocabulary.
        near: data.niv2, beside which `tokenizer/` may lie.
        root: data.root, in which it may lie; looked into first.
        tokenizer: sentencepiece or huggingface.

    Raises:
        VocabularyError: no file there; the message says what to set.
    """
    if path is not None:
        found = Path(path).expanduser().resolve()
        if not found.is_file():
            raise VocabularyError(f"tokenizer.vocabulary={path}: {'a folder' if found.is_dir() else 'no such file'}")
        return found
    folders = [Path(root).expanduser().resolve()] if root else []
    folders += [Path(near).expanduser().resolve().parent] if near else []
    candidates = list(dict.fromkeys(folder / "tokenizer" / FILES[tokenizer] for folder in folders))
    for candidate in candidates:
        if candidate.is_file():
            log.info("vocabulary: %s, found among the data", candidate)
            return candidate
    where = f", nor is there {' or '.join(map(str, candidates))}" if candidates else ""
    what = {
        "sentencepiece": "T5's SentencePiece model (`flanscale tasks fetch vocabulary --to data` brings it for"
        " data.root=data)",
        "huggingface": "a tokenizer.json",
    }[tokenizer]
    raise VocabularyError(f"tokenizer.vocabulary is not set{where}; give {what}: tokenizer.vocabulary=<file>")


def tokenizer_config(vocabulary: Path) -> dict[str, Any]:
    """What stands in tokenizer_config.json beside a tokenizer.json, special tokens as plain text; empty without one.

    Raises:
        VocabularyError: it is not a JSON object.
    """
    path = vocabulary.with_name("tokenizer_config.json")
    if vocabulary.suffix != ".json" or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: value["content"] if isinstance(value, dict) and "content" in value else value
            for name, value in content.items()
        }
    except (OSError, ValueError, AttributeError) as error:
        raise VocabularyError(f"{path}: no JSON object") from error


def named_end(vocabulary: Path) -> str | None:
    """The token that ends a text, where tokenizer_config.json beside a tokenizer.json names it."""
    token = tokenizer_config(vocabulary).get("eos_token")
    return token if isinstance(token, str) else None


def train_bpe(texts: Iterable[str], size: int, path: Path) -> int:
    """Learn a byte-level BPE vocabulary from texts and write it as a tokenizer.json; its number of ids.

    Pad is 0, end 1, unknown 2, and the 256 bytes follow, so that every text can be written and comes back unchanged.
    The same texts give the same file. Few texts give fewer than `size` ids.

    Raises:
        VocabularyError: `size` leaves no room for the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = ["<pad>", "</s>", "<unk>"]
    if size < len(special) + 256:
        raise VocabularyError(f"a byte-level vocabulary has at least {len(special) + 256} ids, not {size}")
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, tokenizer.to_str())
    return int(tokenizer.get_vocab_size())

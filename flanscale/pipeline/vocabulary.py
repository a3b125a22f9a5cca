"""Where is the SentencePiece vocabulary? Found when a study is planned, so that no queued cell can miss it."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)


class VocabularyError(ValueError):
    """No vocabulary file; the message is one line."""


def find_vocabulary(path: str | None, *, near: str | None) -> Path:
    """The vocabulary file: the path given, or T5's beside the data folder (`<near>/../tokenizer/t5.spiece.model`).

    Raises:
        VocabularyError: no file there; the message says what to set.
    """
    if path is not None:
        found = Path(path).expanduser().resolve()
        if not found.is_file():
            raise VocabularyError(f"tokenizer.vocabulary={path}: no such file")
        return found
    beside = Path(near).expanduser().resolve().parent / "tokenizer" / "t5.spiece.model" if near else None
    if beside and beside.is_file():
        log.info("vocabulary: %s, found beside data.niv2", beside)
        return beside
    where = f", nor is there {beside}" if beside else ""
    raise VocabularyError(
        f"tokenizer.vocabulary is not set{where}; give T5's SentencePiece model"
        " (spiece.model of google/t5-v1_1-small): tokenizer.vocabulary=<file>"
    )

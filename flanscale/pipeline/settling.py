"""Can a cell's texts become rows? Its vocabulary is found and fingerprinted when a study is planned, so that no queued
cell can miss it, and is held against the model's rows and what the denoisers need."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

from flanscale.pipeline.vocabulary import FILES, find_vocabulary, named_end
from flanscale.schema import RunConfig, TokenizerConfig

if TYPE_CHECKING:
    from flanscale.pipeline.tokenizers import Tokenizer


def settle_vocabulary(config: RunConfig) -> None:
    """Find and fingerprint the vocabulary of a cell, and see that the model has rows for it, and it and the packed
    rows what the denoisers need.

    Raises:
        VocabularyError: no vocabulary file, or one of more ids than the model has rows.
        DataError: a denoiser that cannot work with it.
    """
    tokenizer = config.tokenizer
    if tokenizer.name in FILES:
        found = find_vocabulary(
            tokenizer.vocabulary, near=config.data.niv2, root=config.data.root, tokenizer=tokenizer.name
        )
        tokenizer.vocabulary = str(found)
        content = found.read_bytes() + (named_end(found) or "").encode()
        config.fingerprints["vocabulary"] = hashlib.sha256(content).hexdigest()[:16]
    if config.objective.denoisers:
        from flanscale.pipeline.windows import open_objective  # brings NumPy in, which a plan can mostly do without

        open_objective(config, settled_tokenizer(tokenizer))
    if config.model.vocab_size is not None:
        from flanscale.pipeline.tokenizers import embedding_rows

        embedding_rows(config.model, settled_tokenizer(tokenizer))


def settled_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """The tokenizer of a cell whose vocabulary is settled; a plan asks for the same one cell after cell.

    Raises:
        VocabularyError: the file is not what the tokenizer needs.
    """
    return _tokenizer(json.dumps(asdict(config)))


@cache
def _tokenizer(key: str) -> Tokenizer:
    from flanscale.pipeline.tokenizers import load_tokenizer

    return load_tokenizer(TokenizerConfig(**json.loads(key)))

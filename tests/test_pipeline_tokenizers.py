"""Tokenizers: text to ids and back, with T5's special ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from flanscale.pipeline.tokenizers import Bytes, Words, load_tokenizer, padded_vocab_size
from flanscale.pipeline.vocabulary import VocabularyError, find_vocabulary
from flanscale.schema import TokenizerConfig


def test_words_round_trip_and_unknown_words_are_marked() -> None:
    words = Words(["reverse", "1", "2"])
    assert words.encode(["reverse 2 1", "fly 1"]) == [[3, 5, 4], [2, 4]]
    assert words.decode([3, 5, 4, 1, 0]) == "reverse 2 1"


def test_bytes_round_trip_every_script() -> None:
    text = "Ünï 数 🙂"
    (ids,) = Bytes().encode([text])
    assert min(ids) >= 3
    assert Bytes().decode(ids) == text


def test_decoding_tolerates_ids_of_the_embeddings_padding() -> None:
    words = Words(["a"])
    assert padded_vocab_size(words) == 8
    assert words.decode(range(8)) == "a"
    assert Bytes().decode([300, 68]) == "A"


@pytest.mark.data
def test_the_t5_vocabulary_gives_the_published_ids(shared_data: Path) -> None:
    vocabulary = find_vocabulary(None, near=str(shared_data / "niv2"))
    t5 = load_tokenizer(TokenizerConfig("sentencepiece", str(vocabulary)))
    text = "translate English to German: The house is wonderful."
    assert t5.encode([text]) == [[13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5]]
    assert t5.decode([*t5.encode([text])[0], 1, 0, 32127]) == text
    assert padded_vocab_size(t5) == 32128


def test_a_missing_vocabulary_is_one_line_that_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"tokenizer.vocabulary=.*no such file"):
        find_vocabulary(str(tmp_path / "none.model"), near=None)
    with pytest.raises(VocabularyError, match=r"not set.*tokenizer.vocabulary=<file>"):
        find_vocabulary(None, near=str(tmp_path / "niv2"))

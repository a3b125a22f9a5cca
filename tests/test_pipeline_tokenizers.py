"""Tokenizers: text to ids and back, as their libraries do it, in flat arrays."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from flanscale.errors import VocabularyError
from flanscale.pipeline.ragged import Ragged
from flanscale.pipeline.spelling import unspelt
from flanscale.pipeline.tokenizers import Bytes, HuggingFace, Tokenizer, Words, load_tokenizer, padded_vocab_size
from flanscale.pipeline.vocabulary import find_vocabulary, train_bpe
from flanscale.schema import TokenizerConfig

TEXTS = [
    "", " ", "reverse 2 1", "Ünï 数 🙂 e\u0301 ﬁ", "two\nlines\tand  spaces ",
    "</s> <pad> <unk> <extra_id_0> <|endoftext|>",
    "it's {curly} [square] don’t", "\x00\x7f\u200b\u2028", "a" * 3000, "ไม่มีช่องว่าง", "12345 + 6789 = 19134",
]  # fmt: skip


def lists(ids: Ragged) -> list[list[int]]:
    return [piece.tolist() for piece in ids]


@pytest.fixture(scope="module")
def bpe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    train_bpe((f"{word} the number {i} of {word}s" for i in range(500) for word in ("house", "tree")), 400, path)
    return path


@pytest.fixture(params=["words", "bytes", "bpe"])
def tokenizer(request: pytest.FixtureRequest, bpe_file: Path) -> Tokenizer:
    if request.param == "bpe":
        return load_tokenizer(TokenizerConfig("huggingface", str(bpe_file)))
    return load_tokenizer(TokenizerConfig(request.param))


# --- what all of them promise -----------------------------------------------------------------------------------------


def test_ids_are_in_range_and_alike_alone_and_in_a_batch(tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode(TEXTS)
    assert len(batch) == len(TEXTS)
    assert lists(batch) == [lists(tokenizer.encode([text]))[0] for text in TEXTS]
    assert batch.tokens.dtype == np.int32
    assert batch.tokens.min() >= 0
    assert batch.tokens.max() < tokenizer.vocab_size <= padded_vocab_size(tokenizer)
    assert len(tokenizer.encode([])) == 0


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@settings(deadline=None)
@given(texts=some.lists(some.text(some.characters(exclude_categories=["Cs"])), max_size=4))
def test_every_text_comes_back_unchanged(bpe_file: Path, kind: str, texts: list[str]) -> None:
    tokenizer: Tokenizer = Bytes() if kind == "bytes" else HuggingFace(bpe_file)
    assert [tokenizer.decode(ids) for ids in tokenizer.encode(texts)] == texts


def test_no_text_writes_the_end_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_id not in tokenizer.encode(TEXTS).tokens


def test_special_and_padding_ids_say_nothing(tokenizer: Tokenizer) -> None:
    ids = lists(tokenizer.encode(["reverse 2 1"]))[0]
    padding = [tokenizer.vocab_size, padded_vocab_size(tokenizer) + 1000]
    text = tokenizer.decode([0, *ids, tokenizer.eos_id, *padding])
    assert text == "reverse 2 1"
    assert tokenizer.decode(np.array([0, *ids, tokenizer.eos_id, *padding])) == text


@pytest.mark.parametrize(
    ("model", "unknown"),
    [
        ({"type": "WordLevel", "vocab": {"</s>": 0, "<unk>": 1, "a": 2}, "unk_token": "<unk>"}, 1),
        ({"type": "Unigram", "vocab": [["</s>", 0.0], ["a", -1.0], ["<unk>", -2.0]], "unk_id": 2}, 2),
    ],
)
def test_what_a_vocabulary_cannot_spell_is_its_unknown_token(model: Any, unknown: int, tmp_path: Path) -> None:
    special = {"id": 0, "content": "</s>", "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "added_tokens": [special | {"normalized": False}], "model": model}))
    tokenizer = HuggingFace(path)
    assert tokenizer.unknown_id == unknown
    assert lists(tokenizer.encode(["a", "{"])) == [[int(tokenizer.token_id("a") or 0)], [unknown]]
    assert unspelt(tokenizer.encode(["a", "{", ""]), tokenizer.unknown_id) == 1


def test_what_spells_everything_has_no_unknown_token(bpe_file: Path) -> None:
    assert Bytes().unknown_id is HuggingFace(bpe_file).unknown_id is None
    assert unspelt(Bytes().encode(["पानी", "{}"]), None) == 0


def test_texts_with_unknown_tokens_are_counted_once_each_wherever_they_lie() -> None:
    words = Words(["a"])
    texts = words.encode(["a a", "b b", "", "a b", "a"])
    assert unspelt(texts, words.unknown_id) == 2
    assert unspelt(texts.view(np.array([4, 3, 2, 0])), words.unknown_id) == 1


def test_the_fingerprint_is_the_vocabularys(bpe_file: Path, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy.json", tmp_path / "other.json"
    copy.write_bytes(bpe_file.read_bytes())
    train_bpe(["other words"], 300, other)
    prints = [HuggingFace(path).fingerprint for path in (bpe_file, copy, other)]
    assert prints[0] == prints[1]
    assert len({*prints, Bytes().fingerprint, Words(["a"]).fingerprint, Words(["b"]).fingerprint}) == 5
    assert {len(value) for value in prints} == {16}


# --- words and bytes --------------------------------------------------------------------------------------------------


def test_words_round_trip_and_unknown_words_are_marked() -> None:
    words = Words(["reverse", "1", "2"])
    assert lists(words.encode(["reverse 2 1", "", "fly 1"])) == [[3, 5, 4], [], [2, 4]]
    assert words.decode([3, 5, 4, 1, 0]) == "reverse 2 1"


def test_bytes_are_byt5s_and_round_trip_every_script() -> None:
    ids = Bytes().encode(TEXTS)
    assert lists(ids) == [[byte + 3 for byte in text.encode()] for text in TEXTS]
    assert [Bytes().decode(piece) for piece in ids] == TEXTS


def test_decoding_tolerates_ids_of_the_embeddings_padding() -> None:
    words = Words(["a"])
    assert padded_vocab_size(words) == 8
    assert words.decode(range(8)) == "a"
    assert Bytes().decode([300, 68]) == "A"


# --- SentencePiece ----------------------------------------------------------------------------------------------------


@pytest.fixture
def t5(shared_data: Path) -> tuple[Tokenizer, Path]:
    vocabulary = find_vocabulary(None, near=str(shared_data / "niv2"))
    return load_tokenizer(TokenizerConfig("sentencepiece", str(vocabulary))), vocabulary


@pytest.mark.data
def test_t5_cannot_spell_braces_nor_hindi(t5: tuple[Tokenizer, Path]) -> None:
    assert t5[0].unknown_id == 2
    assert [unspelt(t5[0].encode([text]), 2) for text in ("water", "पानी", '{"a": 1}', "")] == [0, 1, 1, 0]


@pytest.mark.data
def test_the_t5_vocabulary_gives_the_published_ids(t5: tuple[Tokenizer, Path]) -> None:
    text = "translate English to German: The house is wonderful."
    assert lists(t5[0].encode([text])) == [[13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5]]
    assert t5[0].decode([*lists(t5[0].encode([text]))[0], 1, 0, 32127]) == text
    assert padded_vocab_size(t5[0]) == 32128
    assert t5[0].eos_id == 1


@pytest.mark.data
def test_sentencepiece_encodes_real_text_as_its_library_does(t5: tuple[Tokenizer, Path], shared_data: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    files = sorted((shared_data / "niv2" / "tasks").glob("*.json.gz"))[::70]
    tasks = [json.loads(gzip.decompress(path.read_bytes())) for path in files]
    texts = TEXTS + [instance["input"] for task in tasks for instance in task["Instances"]]
    library = SentencePieceProcessor(model_file=str(t5[1]))
    ids = t5[0].encode(texts)
    assert lists(ids) == [library.encode(text) for text in texts]
    assert t5[0].eos_id not in ids.tokens
    assert [t5[0].decode(piece) for piece in ids] == [library.decode(library.encode(text)) for text in texts]


def test_what_is_no_sentencepiece_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_text("{}")
    for name, why in (("spiece.model", "no SentencePiece model"), ("absent", "No such file")):
        with pytest.raises(VocabularyError, match=rf"tokenizer.vocabulary=.*{name}: {why}[^\n]*$"):
            load_tokenizer(TokenizerConfig("sentencepiece", str(tmp_path / name)))


# --- Hugging Face -----------------------------------------------------------------------------------------------------


def test_hugging_face_encodes_as_its_library_does(bpe_file: Path) -> None:
    from tokenizers import Tokenizer as Library

    library = Library.from_file(str(bpe_file))
    plain = [text for text in TEXTS if "</s>" not in text]
    assert lists(HuggingFace(bpe_file).encode(plain)) == [library.encode(text).ids for text in plain]


def with_settings(path: Path, target: Path, **settings: object) -> Path:
    target.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return target


def special(*tokens: str) -> list[dict[str, object]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": 400 + i, "content": token, **flags} for i, token in enumerate(tokens)]


@pytest.mark.parametrize(
    ("tokens", "end"),
    [(["<|endoftext|>", "<|im_end|>"], "<|endoftext|>"), (["[CLS]", "[SEP]"], "[SEP]"), (["<bos>", "<eos>"], "<eos>")],
)
def test_the_end_token_is_found_among_the_special_ones(
    bpe_file: Path, tmp_path: Path, tokens: list[str], end: str
) -> None:
    file = with_settings(bpe_file, tmp_path / "tokenizer.json", added_tokens=special(*tokens))
    found = HuggingFace(file)
    assert found.eos_id == 400 + tokens.index(end)
    assert found.vocab_size == 400 + len(tokens)
    assert found.decode([*found.encode(["a tree"]).tokens, found.eos_id]) == "a tree"
    assert found.eos_id not in found.encode([f"a {end} tree"]).tokens


def test_no_end_token_is_one_line_that_lists_what_there_is(bpe_file: Path, tmp_path: Path) -> None:
    file = with_settings(bpe_file, tmp_path / "tokenizer.json", added_tokens=special("<bos>", "<mask>"))
    with pytest.raises(VocabularyError, match=r"no end token among its special tokens \(<bos>, <mask>\); [^\n]*</s>"):
        HuggingFace(file)


def test_cutting_and_padding_of_the_file_are_left_aside(bpe_file: Path, tmp_path: Path) -> None:
    cutting = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    filling = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None} | {
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    file = with_settings(bpe_file, tmp_path / "tokenizer.json", truncation=cutting, padding=filling)
    assert lists(HuggingFace(file).encode(TEXTS)) == lists(HuggingFace(bpe_file).encode(TEXTS))


def test_what_is_no_tokenizer_json_is_one_line(tmp_path: Path) -> None:
    for content in (b"{}", b"\xff\xfe", b"not json"):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(VocabularyError, match=r"tokenizer.json: no tokenizer.json \([^\n]*$"):
            HuggingFace(tmp_path / "tokenizer.json")


# --- a vocabulary of one's own ----------------------------------------------------------------------------------------


def test_a_trained_bpe_has_t5s_special_ids_and_writes_every_text(bpe_file: Path) -> None:
    vocabulary = json.loads(bpe_file.read_text())["model"]["vocab"]
    assert [vocabulary[token] for token in ("<pad>", "</s>", "<unk>")] == [0, 1, 2]
    bpe = HuggingFace(bpe_file)
    assert (bpe.eos_id, bpe.vocab_size) == (1, 400)
    assert [bpe.decode(piece) for piece in bpe.encode(TEXTS)] == TEXTS
    assert len(bpe.encode([" number of houses"]).tokens) == 3


def test_the_same_texts_train_the_same_file(bpe_file: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from flanscale.pipeline.vocabulary import train_bpe;"
        "train_bpe((f'{w} the number {i} of {w}s' for i in range(500) for w in ('house', 'tree')), 400,"
        " Path(sys.argv[1]))"
    )
    for seed in ("1", "2"):
        made = tmp_path / seed / "tokenizer.json"
        subprocess.run(
            [sys.executable, "-c", program, str(made)], env=os.environ | {"PYTHONHASHSEED": seed}, check=True
        )
        assert made.read_bytes() == bpe_file.read_bytes()
        assert list(made.parent.iterdir()) == [made]


def test_a_vocabulary_without_room_for_the_bytes_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"at least 259 ids, not 100"):
        train_bpe(["a"], 100, tmp_path / "tokenizer.json")


# --- where the file is ------------------------------------------------------------------------------------------------


def test_a_missing_vocabulary_is_one_line_that_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"tokenizer.vocabulary=.*no such file"):
        find_vocabulary(str(tmp_path / "none.model"), near=None)
    with pytest.raises(VocabularyError, match=r"tokenizer.vocabulary=.*a folder"):
        find_vocabulary(str(tmp_path), near=None)
    with pytest.raises(VocabularyError, match=r"not set.*t5.spiece.model; give T5's .*tokenizer.vocabulary=<file>"):
        find_vocabulary(None, near=str(tmp_path / "niv2"))
    with pytest.raises(VocabularyError, match=r"not set.*tokenizer/tokenizer.json; give a tokenizer.json"):
        find_vocabulary(None, near=None, root=str(tmp_path), tokenizer="huggingface")
    with pytest.raises(VocabularyError, match=r"not set; give"):
        find_vocabulary(None, near=None)


@pytest.mark.parametrize(("kind", "file"), [("sentencepiece", "t5.spiece.model"), ("huggingface", "tokenizer.json")])
def test_a_vocabulary_among_the_data_is_found(tmp_path: Path, kind: str, file: str) -> None:
    root, beside = (tmp_path / name / "tokenizer" / file for name in ("root", "other"))
    for path in (root, beside):
        path.parent.mkdir(parents=True)
    beside.touch()
    near = str(tmp_path / "other" / "niv2")
    assert find_vocabulary(None, near=near, root=str(tmp_path / "root"), tokenizer=kind) == beside
    root.touch()
    assert find_vocabulary(None, near=near, root=str(tmp_path / "root"), tokenizer=kind) == root
    assert find_vocabulary(str(beside), near=None, root=str(tmp_path / "root"), tokenizer=kind) == beside


@pytest.mark.data
def test_t5s_file_as_published_has_its_sentinels_added(shared_data: Path, tmp_path: Path) -> None:
    from sentencepiece import sentencepiece_model_pb2

    whole = shared_data / "tokenizer" / "t5.spiece.model"
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(whole.read_bytes())
    del model.pieces[32_000:]
    bare = tmp_path / "spiece.model"
    bare.write_bytes(model.SerializeToString())
    published, ours = (load_tokenizer(TokenizerConfig("sentencepiece", str(path))) for path in (bare, whole))
    assert published.vocab_size == ours.vocab_size == 32_100
    assert [published.token_id(f"<extra_id_{i}>") for i in (0, 99, 100)] == [32_099, 32_000, None]
    assert [ours.token_id(f"<extra_id_{i}>") for i in (0, 99, 100)] == [32_099, 32_000, None]
    assert lists(published.encode(["The house is wonderful."])) == lists(ours.encode(["The house is wonderful."]))
    assert published.decode([32_099, 37, 629]) == ours.decode([37, 629])

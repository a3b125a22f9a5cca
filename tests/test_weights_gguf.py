"""A GGUF file is read as the Hugging Face folder that it was made from; its vocabulary becomes a tokenizer.json."""

import json

import jax
import numpy as np
import pytest
from our_side import loaded
from tiny_families import golden_folder

from flanscale.errors import WeightsError
from flanscale.pipeline.tokenizers import HuggingFace
from flanscale.weights.gguf import OF_A_LAYER, WHOLE, read_header
from flanscale.weights.opening import open_source
from flanscale.weights.vocabulary import check_vocabulary, vocabulary_of

gguf = pytest.importorskip("gguf", reason="GGUF needs the package gguf")

HEADS = {"attn_q": 3, "attn_k": 1}
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]


def llama_cpp_order(kernel: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's converter stores queries and keys, whose rotary positions turn neighbours."""
    return kernel.reshape(heads, 2, kernel.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(kernel.shape)


def byte_pieces() -> list[str]:
    """GPT-2's characters for bytes, and one merge."""
    rest = [chr(256 + i) for i in range(256 - len(BYTES))]
    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *map(chr, BYTES), *rest, "he"]


@pytest.fixture
def file(tmp_path):
    """The tiny SmolLM2 as GGUF, not quantised, with a vocabulary of bytes."""
    source = open_source(golden_folder("smollm2", tmp_path / "folder"))
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in {
        "block_count": 3,
        "context_length": 64,
        "embedding_length": 24,
        "feed_forward_length": 24,
        "head_count": 3,
        "head_count_kv": 1,
        "layer_norm_rms_eps": 1e-5,
        "rope_freq_base": 1e5,
        "vocab_size": 64,
        "rope_dimension_count": 8,
    }.items():
        getattr(writer, f"add_{name}")(value)
    pieces = byte_pieces()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([3, 3, 3] + [1] * (len(pieces) - 3))
    writer.add_token_merges(["h e"])
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages }}")
    names = {theirs: ours for ours, theirs in WHOLE.items()}
    for layer in range(3):
        for ours, theirs in OF_A_LAYER.items():
            names[f"model.layers.{layer}.{theirs}.weight"] = f"blk.{layer}.{ours}.weight"
    for name in source.tensors:
        values, part = source.read(name), names[name].split(".")
        heads = HEADS.get(part[2]) if len(part) == 4 else None
        writer.add_tensor(names[name], values if heads is None else llama_cpp_order(values, heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_it_gives_the_parameters_of_the_folder_that_it_was_made_from(file):
    _, ours = loaded("smollm2", file)
    _, theirs = loaded("smollm2", file.parent / "folder")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), ours, theirs))


def test_its_vocabulary_comes_back_with_the_end_that_it_names(file, tmp_path):
    vocabulary = vocabulary_of(file, "huggingface", tmp_path / "cache")
    assert vocabulary == vocabulary_of(file, "huggingface", tmp_path / "cache")
    tokenizer = HuggingFace(vocabulary)
    pieces = byte_pieces()
    assert (tokenizer.vocab_size, tokenizer.eos_id) == (len(pieces), 2)
    ids = tokenizer.encode(["he 12é"])[0].tolist()
    assert [pieces[i] for i in ids] == ["he", "Ġ", "1", "2", "Ã", "©"]
    assert tokenizer.decode(ids) == "he 12é"
    beside = json.loads(vocabulary.with_name("tokenizer_config.json").read_text())
    assert (beside["eos_token"], beside["chat_template"]) == ("<|im_end|>", "{{ messages }}")


def test_another_vocabulary_is_refused_with_the_first_id_that_differs(file, tmp_path):
    own = vocabulary_of(file, "huggingface", tmp_path / "cache")
    check_vocabulary(file, own)
    content = json.loads(own.read_text())
    vocab = content["model"]["vocab"]
    vocab["!"], vocab["#"] = vocab["#"], vocab["!"]
    other = tmp_path / "tokenizer.json"
    other.write_text(json.dumps(content))
    with pytest.raises(
        WeightsError, match=r"is not that of init\.hf=.*: id 3 is '#' in the vocabulary and '!' in the weights'"
    ):
        check_vocabulary(file, other)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.2, 0.5, 0.999])
def test_a_half_downloaded_file_is_refused(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match="cut short"):
        open_source(file)


def test_garbage_is_refused(tmp_path):
    path = tmp_path / "x.gguf"
    for content in (b"x", b"<html>" * 100, b"GGUF" + b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="no GGUF file"):
            read_header(path)

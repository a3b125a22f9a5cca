"""Reading and writing folders in Hugging Face's layout, and all that can be wrong with one."""

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from our_side import abstract, loaded, tiny_model
from tiny_families import FAMILIES, golden_folder

from flanscale.errors import WeightsError
from flanscale.schema import ModelConfig
from flanscale.weights.config_write import write_config
from flanscale.weights.export import write_folder
from flanscale.weights.fingerprint import fingerprint
from flanscale.weights.hf import INDEX, SINGLE, read_header, write_tensors
from flanscale.weights.load import is_stacked, name_of, read_parameter, tensors_of
from flanscale.weights.names import homes
from flanscale.weights.opening import open_source


def equal(one, other) -> bool:
    return bool(jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and bool((a == b).all()), one, other)))


def change_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder: Path, change) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / SINGLE)
    change(tensors)
    save_file(tensors, folder / SINGLE)


@pytest.fixture
def folder(tmp_path):
    return golden_folder("llama", tmp_path / "llama")


# --- there and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_reading_what_was_written_gives_the_same_bits(name, tmp_path):
    model, params = loaded(name, golden_folder(name, tmp_path / "given"))
    made = tmp_path / "made"
    made.mkdir()
    write_folder(made, model, params, write_config(model.config, model.vocab_size, eos_id=1), shard_bytes=4000)
    assert (made / INDEX).is_file()
    assert len(list(made.glob("model-0*-of-0*.safetensors"))) > 1
    assert equal(loaded(name, made)[1], params)


def test_one_file_is_written_where_all_fits_in_it(tmp_path):
    write_tensors(tmp_path, iter([("a", np.ones((2, 3), np.float32)), ("b", np.zeros(4, np.float32))]))
    assert [file.name for file in tmp_path.iterdir()] == [SINGLE]
    assert read_header(tmp_path / SINGLE)["a"]["shape"] == [2, 3]


@pytest.mark.parametrize("name", ["llama", "pythia", "t5_v1_1"])
def test_a_slice_of_a_parameter_is_that_slice_of_the_whole(name, tmp_path):
    """What a device asks for, of stacks, transposed kernels and the fused kernel of GPT-NeoX."""
    model, params = loaded(name, golden_folder(name, tmp_path))
    source = open_source(tmp_path)
    known = homes(source.config["model_type"], model.config, source.tensors)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        halves = [slice(0, size // 2) if axis % 2 else slice(size // 2, None) for axis, size in enumerate(leaf.shape)]
        part = read_parameter(
            source, known[name_of(path)], leaf.shape, tuple(halves), is_stacked(path), model.config.head_dim
        )
        np.testing.assert_array_equal(part, np.asarray(leaf)[tuple(halves)])


def test_eight_devices_hold_the_parameters_that_one_holds(tmp_path):
    golden_folder("llama", tmp_path)
    program = """
import sys
import jax, numpy as np
from our_side import abstract, tiny_model
from flanscale.schema import MeshConfig
from flanscale.weights.load import load_params
from flanscale.weights.opening import open_source
model = tiny_model("llama")
meshes = MeshConfig(), MeshConfig(2, 2, 2)
one, eight = (load_params(open_source(sys.argv[1]), model, abstract(model, mesh)) for mesh in meshes)
assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), one, eight))
query = eight["layers"]["attention"]["query"]
assert len(query.sharding.device_set) == 8 and query.addressable_shards[0].data.shape == (3, 8, 8), query.sharding
"""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.pathsep.join(["tests", "."]),
    }
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_half_precision_is_read_as_float32(folder):
    import ml_dtypes

    _, before = loaded("llama", folder)
    change_tensors(folder, lambda t: t.update({k: v.astype(ml_dtypes.bfloat16) for k, v in t.items()}))
    _, after = loaded("llama", folder)
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert other.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(one).astype(ml_dtypes.bfloat16).astype(np.float32), other)


# --- what can be wrong ---------------------------------------------------------------------------------------------


def fails(folder, pattern: str, name: str = "llama", **changes) -> None:
    with pytest.raises(WeightsError, match=pattern) as caught:
        loaded(name, folder, **changes)
    assert "\n" not in str(caught.value)


def test_a_missing_tensor_is_named(folder):
    change_tensors(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    fails(folder, r"tensor model\.layers\.1\.mlp\.up_proj\.weight is missing \(1 of 30 are\)")


def test_a_misshapen_tensor_is_named_with_both_shapes(folder):
    def cut(tensors):
        tensors["model.layers.2.self_attn.k_proj.weight"] = np.zeros((8, 15), np.float32)

    change_tensors(folder, cut)
    fails(folder, r"tensor model\.layers\.2\.self_attn\.k_proj\.weight is \[8, 15\], but model=llama needs \[8, 16\]")


@pytest.mark.parametrize(
    ("family", "tensor"),
    [
        ("llama", "model.layers.2.mlp.down_proj.weight"),
        ("llama", "lm_head.weight"),
        ("pythia", "gpt_neox.layers.1.attention.query_key_value.weight"),
        ("t5_v1_1", "shared.weight"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_tensor_that_holds_what_is_no_number_is_named(family, tensor, value, tmp_path):
    folder = golden_folder(family, tmp_path)
    change_tensors(folder, lambda tensors: tensors[tensor].reshape(-1).__setitem__(5, value))
    fails(folder, rf"tensor {tensor} holds NaN or infinity \(1 of the [\d,]+ numbers read\)", family)


def test_what_half_precision_could_not_hold_is_named_too(folder):
    change_tensors(folder, lambda t: t.update({"model.norm.weight": np.full(16, np.inf, np.float16)}))
    fails(folder, r"tensor model\.norm\.weight holds NaN or infinity \(16 of the 16")


@pytest.mark.parametrize(
    ("family", "head", "said", "pattern"),
    [
        ("llama", "lm_head.weight", False, "says tie_word_embeddings=false: it is incomplete, fetch it again$"),
        ("llama", "lm_head.weight", None, "does not say tie_word_embeddings, which is false for llama then"),
        ("pythia", "embed_out.weight", None, "which is false for gpt_neox then"),
        ("t5_v1_1", "lm_head.weight", False, "transformers 5 would take the embedding table for it, unscaled"),
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_without_the_head_that_it_speaks_of_is_incomplete(family, head, said, pattern, tied, tmp_path):
    """Whatever the model says: a tied one would compute something else in silence."""
    folder = golden_folder(family, tmp_path)
    change_tensors(folder, lambda tensors: [tensors.pop(name, None) for name in ("lm_head.weight", "embed_out.weight")])
    change_config(folder, tie_word_embeddings=said)
    fails(folder, rf"the folder lacks {head}, though its config\.json .*{pattern}", family, tie_embeddings=tied)


def test_an_unknown_tensor_is_told_and_left_aside_but_known_buffers_are_not_worth_a_word(folder, caplog):
    change_tensors(folder, lambda tensors: tensors.update(strange=np.ones(3, np.float32)))
    with caplog.at_level(logging.WARNING):
        loaded("llama", folder)
    assert "not used: strange" in caplog.text
    caplog.clear()
    change_tensors(folder, lambda t: t.pop("strange") is None or t.update({"a.rotary_emb.inv_freq": np.ones(2)}))
    loaded("llama", folder)
    assert not caplog.text


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"num_hidden_layers": 4}, r"is not the model llama: num_hidden_layers=4 there means model\.n_layers=4, not 3"),
        ({"rms_norm_eps": 1e-6}, r"rms_norm_eps=1e-06 there means model\.norm_eps=1e-06, not 1e-05"),
        ({"model_type": "qwen2"}, r"model_type=qwen2 there means model\.bias=qkv, not none"),
        ({"model_type": "gpt2"}, r"model_type='gpt2': must be one of t5, "),
        ({"vocab_size": 65}, r"vocab_size=65 there means model\.vocab_size=65, not 64"),
        ({"hidden_act": "relu"}, r"hidden_act=relu: must be one of silu"),
        ({"attention_bias": True}, r"attention_bias"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, r"'yarn'.*: only Llama 3's"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": None}, r"'linear'.*: only Llama 3's"),
        ({"query_pre_attn_scalar": 7}, r"query_pre_attn_scalar=7 is not head_dim="),
    ],
)  # fmt: skip
def test_a_config_of_another_model_is_refused_by_key(folder, changes, pattern):
    change_config(folder, **changes)
    fails(folder, pattern)


def test_a_head_of_its_own_needs_an_untied_model_and_the_reverse(folder, tmp_path):
    fails(folder, r"model\.tie_embeddings=false, not true", tie_embeddings=True, scale_logits=False)
    other = golden_folder("smollm2", tmp_path / "tied")
    fails(other, r"model\.tie_embeddings=true, not false", "smollm2", tie_embeddings=False)


def test_a_head_that_repeats_a_tied_table_is_no_head_of_its_own(tmp_path):
    folder = golden_folder("smollm2", tmp_path)
    change_tensors(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].copy()}))
    loaded("smollm2", folder)


def test_a_table_of_one_side_of_t5_is_the_shared_one_or_refused(tmp_path):
    folder, name = golden_folder("t5_v1_1", tmp_path), "encoder.embed_tokens.weight"
    change_tensors(folder, lambda t: t.update({name: t["shared.weight"].copy()}))
    loaded("t5_v1_1", folder)
    change_tensors(folder, lambda t: t[name].reshape(-1).__setitem__(3, 7.0))
    fails(folder, rf"tensor {name} is another table than shared\.weight, and T5 has one for both sides", "t5_v1_1")


def test_a_half_downloaded_file_is_refused_before_anything_is_read(folder):
    file = folder / SINGLE
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    fails(folder, rf"cut short: {len(whole) // 2:,} bytes where its header says {len(whole):,}")
    file.write_bytes(whole[:100])
    fails(folder, "cut short within its header")
    file.write_bytes(b"<html>not found</html>" * 10)
    fails(folder, r"no safetensors file|cut short within its header")


def test_a_missing_shard_is_named(tmp_path):
    model, params = loaded("llama", golden_folder("llama", tmp_path / "given"))
    made = tmp_path / "made"
    made.mkdir()
    write_folder(made, model, params, write_config(model.config, model.vocab_size, eos_id=1), shard_bytes=8000)
    next(iter(sorted(made.glob("model-00002*")))).unlink()
    fails(made, r"model-00002-of-0000\d\.safetensors: No such file")


def test_an_index_cannot_lead_out_of_its_folder(folder):
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    fails(folder, "which is not in its folder")


def test_pickled_weights_are_not_touched(folder):
    (folder / SINGLE).rename(folder / "pytorch_model.bin")
    fails(folder, r"pytorch_model\.bin may run code when read: save it as safetensors")


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("google/flan-t5-small", "no such folder or file; to fetch it: hf download google/flan-t5-small"),
        ("/nowhere/at/all", "init.hf=/nowhere/at/all: no such folder or file$"),
    ],
)
def test_what_is_not_there_is_said_so(path, pattern):
    with pytest.raises(WeightsError, match=pattern):
        open_source(path)


def test_a_model_that_no_class_of_transformers_computes_is_refused():
    palm = ModelConfig("palm", "decoder", 16, 2, 4, 4, 32, n_kv_heads=1, block="parallel", vocab_size=64)
    with pytest.raises(
        WeightsError,
        match=r"no class of transformers computes palm, .*LlamaForCausalLM .*model\.block=pre, not parallel",
    ):
        write_config(palm, 64, eos_id=1)


@pytest.mark.slow
def test_every_shipped_size_of_an_open_family_has_a_place_for_every_parameter():
    from flanscale.config.compose import Composer
    from flanscale.config.places import available
    from flanscale.models import build_model
    from flanscale.weights.config_json import family_of
    from flanscale.weights.names import home_of

    seen = []
    for name in available("model"):
        config = dataclasses.replace(Composer().compose([f"model={name}"]).model, n_layers=1, scan=True)
        try:
            given = write_config(config, config.vocab_size or 32_128, eos_id=1)
        except WeightsError:
            assert name.startswith(("palm", "micro", "nano")), name
            continue
        family = family_of(given, name)
        known = homes(family, config)
        shapes = jax.eval_shape(build_model(config, config.vocab_size or 32_128).init, jax.random.key(0))
        for path, _ in jax.tree_util.tree_leaves_with_path(shapes):
            home_of(name_of(path), known, family)
        seen.append(name)
    assert len(seen) > 20


# --- identity ------------------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_the_content_and_not_the_place(folder, tmp_path):
    before = fingerprint(folder)
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert fingerprint(copy) == before
    change_tensors(folder, lambda t: t["model.norm.weight"].__iadd__(1))
    assert fingerprint(folder) != before
    change_config(copy, rope_theta=7.0)
    assert fingerprint(copy) != before


def test_tensors_come_out_whole_under_their_names(folder):
    model, params = loaded("llama", folder)
    source = open_source(folder)
    tensors = dict(tensors_of(params, homes("llama", model.config), "llama", model.config.head_dim))
    assert {name: value.shape for name, value in tensors.items()} == {n: t.shape for n, t in source.tensors.items()}
    assert abstract(tiny_model("llama"))["final_norm"]["scale"].shape == tensors["model.norm.weight"].shape

"""What does a config.json say in the words of `ModelConfig`?

Nothing is taken over in silence: a model is built from conf/model, and a config.json that says otherwise is an error
that names the key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from flanscale.errors import WeightsError
from flanscale.schema import ModelConfig

GEMMAS = ("gemma", "gemma2", "gemma3_text")
LLAMAS = ("llama", "mistral", "qwen2", "qwen3", "olmo2", *GEMMAS)
CLASSES = {
    "t5": "T5ForConditionalGeneration",
    "gpt_neox": "GPTNeoXForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
"""The families that can be read and written: model_type → class."""

TIED_UNLESS_SAID = ("t5", *GEMMAS)
"""Where a config.json is silent, transformers' classes take the embedding table for the output kernel in these families
alone."""

LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


class Said(NamedTuple):
    value: Any
    key: str  # of config.json, or why it is so


# --- reading -----------------------------------------------------------------------------------------------------


def family_of(given: Mapping[str, Any], where: object) -> str:
    """The model_type of a config.json.

    Raises:
        WeightsError: it is none of those that can be read.
    """
    family = given.get("model_type")
    if family not in CLASSES:
        raise WeightsError(f"{where}: model_type={family!r}: must be one of {', '.join(CLASSES)}")
    return family


def check_config(config: ModelConfig, rows: int, given: Mapping[str, Any], *, own_head: bool, where: object) -> None:
    """Holds conf/model against a config.json.

    Args:
        rows: of the model's embedding table.
        own_head: the weights hold an output kernel that is not the embedding.

    Raises:
        WeightsError: what differs, by key; or what no configuration of ours can say.
    """
    said = read_config(given, own_head=own_head, where=where)
    ours: dict[str, Any] = dataclasses.asdict(config) | {"n_kv_heads": config.kv_heads, "vocab_size": rows}
    if config.window_rope_theta == config.rope_theta:
        ours["window_rope_theta"] = None
    if not config.tie_embeddings:
        ours["scale_logits"] = said["scale_logits"].value
    differing = [
        f"{value.key} there means model.{name}={_shown(value.value)}, not {_shown(ours[name])}"
        for name, value in said.items()
        if ours[name] != value.value
    ]
    if differing:
        raise WeightsError(f"{where} is not the model {config.name}: {'; '.join(differing)}")


def check_head(given: Mapping[str, Any], head: str, held: Container[str], where: object) -> None:
    """Sees that weights hold the output kernel that their config.json speaks of.

    transformers draws a missing kernel at random, with a warning; but from its version 5 on, T5 without one takes the
    embedding table for it, unscaled (its T5Config; github.com/huggingface/transformers/pull/43880).

    Args:
        head: the kernel's name in this family.
        held: the names of all tensors.

    Raises:
        WeightsError: the kernel is not there, and config.json does not say that it is the embedding table.
    """
    family = family_of(given, where)
    said = given.get("tie_word_embeddings")
    if head in held or (family in TIED_UNLESS_SAID if said is None else said):
        return
    says = f"says tie_word_embeddings={_shown(said)}"
    if said is None:
        says = f"does not say tie_word_embeddings, which is false for {family} then"
    otherwise = "; transformers 5 would take the embedding table for it, unscaled, and 4 one at random"
    raise WeightsError(
        f"{where}: the folder lacks {head}, though its config.json {says}: it is incomplete, fetch it again"
        f"{otherwise if family == 't5' else ''}"
    )


def read_config(given: Mapping[str, Any], *, own_head: bool, where: object) -> dict[str, Said]:
    """Every knob of `ModelConfig` that a config.json decides.

    Raises:
        WeightsError: a key is missing, or says what no knob can.
    """
    family = family_of(given, where)
    try:
        if family == "t5":
            return _read_t5(given, own_head)
        said = _read_gpt_neox(given) if family == "gpt_neox" else _read_llama(given, family)
    except KeyError as error:
        raise WeightsError(f"{where}: no {error.args[0]}") from error
    except _Unsupported as error:
        raise WeightsError(f"{where}: {error}") from error
    said["tie_embeddings"] = Said(not own_head, "an output kernel of its own" if own_head else "no output kernel")
    said["scale_logits"] = Said(False, f"model_type={family}")
    return said


class _Unsupported(Exception):
    pass


def _read_t5(given: Mapping[str, Any], own_head: bool) -> dict[str, Said]:
    if given.get("num_decoder_layers", given["num_layers"]) != given["num_layers"]:
        raise _Unsupported("num_decoder_layers is not num_layers")
    act = given.get("feed_forward_proj", "relu")
    activations = {"relu": "relu", "gated-gelu": "geglu", "gated-gelu_new": "geglu", "gated-silu": "swiglu"}
    if act not in activations:
        raise _Unsupported(f"feed_forward_proj={act}: must be one of {', '.join(activations)}")
    # The constructor of transformers' T5Config turns an untied table into one without scaling and then ties it, so that
    # a saved file says tie_word_embeddings=true; what it meant is in scale_decoder_outputs and in the weights.
    scaled = given.get("scale_decoder_outputs", given.get("tie_word_embeddings") is not False)
    return {
        "architecture": Said("encoder_decoder", "model_type=t5"),
        "vocab_size": _said(given, "vocab_size"),
        "d_model": _said(given, "d_model"),
        "n_layers": _said(given, "num_layers"),
        "n_heads": _said(given, "num_heads"),
        "head_dim": _said(given, "d_kv"),
        "d_ff": _said(given, "d_ff"),
        "activation": Said(activations[act], f"feed_forward_proj={act}"),
        "norm_eps": _said(given, "layer_norm_epsilon", 1e-6),
        "relative_buckets": _said(given, "relative_attention_num_buckets", 32),
        "relative_max_distance": _said(given, "relative_attention_max_distance", 128),
        "tie_embeddings": Said(not own_head, f"{'an' if own_head else 'no'} lm_head.weight of its own"),
        "scale_logits": Said(scaled, f"scale_decoder_outputs={scaled}"),
    }


def _read_llama(given: Mapping[str, Any], family: str) -> dict[str, Said]:
    rope, local = _ropes(given, family)
    kind = f"model_type={family}"
    heads = given["num_attention_heads"]
    gemma = family in GEMMAS
    act = given.get("hidden_activation") or ("gelu_pytorch_tanh" if gemma else given.get("hidden_act", "silu"))
    activations = {"silu": "swiglu", "gelu_pytorch_tanh": "geglu", "gelu_new": "geglu"}
    if act not in activations:
        raise _Unsupported(f"hidden_act={act}: must be one of {', '.join(activations)}")
    head_dim = given.get("head_dim") or given["hidden_size"] // heads
    scalar = given.get("query_pre_attn_scalar")
    if scalar is not None and scalar != head_dim:
        raise _Unsupported(f"query_pre_attn_scalar={scalar} is not head_dim={head_dim}")
    if given.get("mlp_bias") or (given.get("attention_bias") and family in ("olmo2", "qwen3", *GEMMAS)):
        raise _Unsupported("attention_bias or mlp_bias: this family is read without")
    if given.get("attention_bias") and family in ("llama", "mistral"):
        raise _Unsupported("attention_bias: only queries, keys and values may have one (Qwen 2)")
    window, every = _windows(given, family)
    window_theta = None if window is None or local in (None, rope[0]) else local
    blocks = {"olmo2": "post", "gemma2": "sandwich", "gemma3_text": "sandwich"}
    norms = {"olmo2": "projection", "qwen3": "head", "gemma3_text": "head"}
    eps = 1e-5 if family in ("olmo2",) else 1e-6  # what transformers' own constructors assume
    return {
        "architecture": Said("decoder", kind),
        "vocab_size": _said(given, "vocab_size"),
        "d_model": _said(given, "hidden_size"),
        "n_layers": _said(given, "num_hidden_layers"),
        "n_heads": _said(given, "num_attention_heads"),
        "n_kv_heads": _said(given, "num_key_value_heads", heads),
        "head_dim": Said(head_dim, f"head_dim={head_dim}"),
        "d_ff": _said(given, "intermediate_size"),
        "activation": Said(activations[act], f"hidden_act={act}"),
        "norm_eps": _said(given, "rms_norm_eps", eps),
        "block": Said(blocks.get(family, "pre"), kind),
        "norm": Said("rms", kind),
        "norm_bias": Said(False, kind),
        "norm_offset": Said(gemma, kind),
        "bias": Said("qkv" if family == "qwen2" else "none", kind),
        "qk_norm": Said(norms.get(family, "none"), kind),
        "rope_theta": Said(rope[0], f"rope_theta={rope[0]:g}"),
        "rope_fraction": Said(1.0, kind),
        "rope_scaling": Said(rope[1], f"rope_scaling's factor={rope[1]:g}"),
        "window": Said(window, f"sliding_window={given.get('sliding_window')}"),
        "global_every": Said(every, "layer_types"),
        "window_rope_theta": Said(window_theta, f"rope_local_base_freq={local}"),
        "attention_cap": _said(given, "attn_logit_softcapping", 50.0 if family == "gemma2" else None),
        "logit_cap": _said(given, "final_logit_softcapping", 30.0 if family == "gemma2" else None),
        "scale_embeddings": Said(gemma, kind),
    }


def _read_gpt_neox(given: Mapping[str, Any]) -> dict[str, Said]:
    kind = "model_type=gpt_neox"
    parallel = given.get("use_parallel_residual", True)
    if not given.get("attention_bias", True):
        raise _Unsupported("attention_bias=false: this family is read with biases")
    act = given.get("hidden_act", "gelu")
    activations = {"gelu": "gelu_exact", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "relu": "relu"}
    if act not in activations:
        raise _Unsupported(f"hidden_act={act}: must be one of {', '.join(activations)}")
    rope = given.get("rope_parameters") or {}
    if given.get("rope_scaling") or rope.get("rope_type", "default") != "default":
        raise _Unsupported("rope_scaling: this family is read without")
    theta = float(rope.get("rope_theta", given.get("rotary_emb_base", 10_000)))
    fraction = float(rope.get("partial_rotary_factor", given.get("rotary_pct", 0.25)))
    head_dim = given["hidden_size"] // given["num_attention_heads"]
    return {
        "architecture": Said("decoder", kind),
        "vocab_size": _said(given, "vocab_size"),
        "d_model": _said(given, "hidden_size"),
        "n_layers": _said(given, "num_hidden_layers"),
        "n_heads": _said(given, "num_attention_heads"),
        "n_kv_heads": _said(given, "num_attention_heads"),
        "head_dim": Said(head_dim, "hidden_size / num_attention_heads"),
        "d_ff": _said(given, "intermediate_size"),
        "activation": Said(activations[act], f"hidden_act={act}"),
        "norm_eps": _said(given, "layer_norm_eps", 1e-5),
        "block": Said("parallel_two_norms" if parallel else "pre", f"use_parallel_residual={parallel}"),
        "norm": Said("layer", kind),
        "norm_bias": Said(True, kind),
        "norm_offset": Said(False, kind),
        "bias": Said("all", kind),
        "qk_norm": Said("none", kind),
        "rope_theta": Said(theta, f"rotary_emb_base={theta:g}"),
        "rope_fraction": Said(fraction, f"rotary_pct={fraction:g}"),
        "rope_scaling": Said(1.0, kind),
        "window": Said(None, kind),
        "global_every": Said(None, kind),
        "window_rope_theta": Said(None, kind),
        "attention_cap": Said(None, kind),
        "logit_cap": Said(None, kind),
        "scale_embeddings": Said(False, kind),
    }


def _ropes(given: Mapping[str, Any], family: str) -> tuple[tuple[float, float], float | None]:
    """(base, Llama 3's factor) of layers that see all, and the base of layers with a window where it is given apart.

    transformers 5 writes rope_parameters, perhaps one for each kind of layer; 4 wrote rope_theta and rope_scaling.
    """
    written = given.get("rope_parameters") or {}
    local = given.get("rope_local_base_freq", 10_000.0 if family == "gemma3_text" else None)
    if "full_attention" in written:
        local = written.get("sliding_attention", {}).get("rope_theta", local)
        written = written["full_attention"]
    scaling = {**(given.get("rope_scaling") or {}), **written}
    default = 1e6 if family == "gemma3_text" else 10_000.0
    theta = float(scaling.get("rope_theta") or given.get("rope_theta") or default)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return (theta, 1.0), local
    if kind == "llama3" and all(scaling.get(key, value) == value for key, value in LLAMA3_ROPE.items()):
        return (theta, float(scaling["factor"])), local
    raise _Unsupported(f"rope_scaling {dict(scaling)}: only Llama 3's, with its usual frequencies, is computed")


def _windows(given: Mapping[str, Any], family: str) -> tuple[int | None, int | None]:
    """(window, every how many layers one sees all)."""
    window = given.get("sliding_window", 4096 if family in ("gemma2", "gemma3_text") else None)
    if family in ("llama", "olmo2", "gemma") or (family in ("qwen2", "qwen3") and not given.get("use_sliding_window")):
        window = None
    if window is None:
        return None, None
    every = given.get("sliding_window_pattern", {"gemma2": 2, "gemma3_text": 6}.get(family))
    kinds: Sequence[str] | None = given.get("layer_types")
    if kinds is not None:
        full = [i for i, name in enumerate(kinds, start=1) if name == "full_attention"]
        every = full[0] if full else (every if every and every > len(kinds) else None)
        if full != ([] if every is None else list(range(every, len(kinds) + 1, every))):
            raise _Unsupported("layer_types: layers that see all do not come at equal distances")
    if every == 1:
        return None, None
    return window, every


def _said(given: Mapping[str, Any], key: str, default: Any = ...) -> Said:
    value = given[key] if default is ... else given.get(key, default)
    return Said(value, f"{key}={_shown(value)}")


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"

"""How is a `ModelConfig` said in the words of a config.json? Read back at once, so that nothing is lost on the way."""

from __future__ import annotations

from typing import Any

from flanscale.errors import WeightsError
from flanscale.schema import ModelConfig
from flanscale.weights.config_json import CLASSES, GEMMAS, LLAMA3_ROPE, check_config

POSITIONS = 2048  # max_position_embeddings of a model that has no limit


def write_config(config: ModelConfig, rows: int, *, eos_id: int, dtype: str = "float32") -> dict[str, Any]:
    """The config.json of a model.

    Raises:
        WeightsError: transformers has no class that computes it; the first option that none has is named.
    """
    family = _family(config)
    given = {"t5": _write_t5, "gpt_neox": _write_gpt_neox}.get(family, _write_llama)(config, family)
    given |= {
        "architectures": [CLASSES[family]],
        "model_type": family,
        "vocab_size": rows,
        "eos_token_id": eos_id,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
    if family != "t5":
        given |= {"bos_token_id": config.bos_id, "max_position_embeddings": config.max_positions or POSITIONS}
    try:
        check_config(config, rows, given, own_head=not config.tie_embeddings, where=f"transformers' {CLASSES[family]}")
    except WeightsError as error:
        raise WeightsError(
            f"no class of transformers computes {config.name}, so it cannot be exported: {error}"
        ) from error
    return given


def _family(config: ModelConfig) -> str:
    """The nearest family; that it is near enough is checked by reading back what is written."""
    if config.architecture == "encoder_decoder":
        return "t5"
    if config.norm == "layer":
        return "gpt_neox"
    if config.block == "sandwich":
        return "gemma3_text" if config.qk_norm == "head" else "gemma2"
    if config.block == "post":
        return "olmo2"
    if config.norm_offset:
        return "gemma"
    if config.qk_norm == "head":
        return "qwen3"
    return "qwen2" if config.bias == "qkv" else "mistral" if config.window else "llama"


def _write_t5(config: ModelConfig, family: str) -> dict[str, Any]:
    scaled = config.tie_embeddings and config.scale_logits
    return {
        "d_model": config.d_model,
        "d_kv": config.head_dim,
        "d_ff": config.d_ff,
        "num_layers": config.n_layers,
        "num_decoder_layers": config.n_layers,
        "num_heads": config.n_heads,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_max_distance,
        "feed_forward_proj": {"geglu": "gated-gelu", "swiglu": "gated-silu"}.get(config.activation, config.activation),
        "dropout_rate": config.dropout,
        "layer_norm_epsilon": config.norm_eps,
        "is_encoder_decoder": True,
        # Without scaling transformers reads an untied table, and the weights hold lm_head.weight either way.
        "tie_word_embeddings": scaled,
        "scale_decoder_outputs": scaled,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
    }


def _write_gpt_neox(config: ModelConfig, family: str) -> dict[str, Any]:
    act = {"gelu_exact": "gelu", "gelu": "gelu_new"}.get(config.activation, config.activation)
    return {
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "hidden_act": act,
        "layer_norm_eps": config.norm_eps,
        "rotary_emb_base": config.rope_theta,
        "rotary_pct": config.rope_fraction,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": config.rope_theta,
            "partial_rotary_factor": config.rope_fraction,
        },
        "use_parallel_residual": config.block == "parallel_two_norms",
        "attention_bias": True,
        "tie_word_embeddings": config.tie_embeddings,
    }


def _write_llama(config: ModelConfig, family: str) -> dict[str, Any]:
    act = {"swiglu": "silu", "geglu": "gelu_pytorch_tanh"}.get(config.activation, config.activation)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    given = {
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": act,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "attention_bias": False,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if config.rope_scaling != 1:
        scaling = {"rope_type": "llama3", "factor": config.rope_scaling, **LLAMA3_ROPE}
        rope |= scaling
        given["rope_scaling"] = scaling
    if family in GEMMAS:
        given |= {"hidden_activation": act, "query_pre_attn_scalar": config.head_dim, "pad_token_id": 0}
    if family == "gemma3_text":
        local = config.window_rope_theta or config.rope_theta
        given["rope_local_base_freq"] = local
        rope = {"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": local}}
    if family in ("gemma2", "gemma3_text", "mistral"):
        given["sliding_window"] = config.window
    if family in ("gemma2", "gemma3_text"):
        given |= {"attn_logit_softcapping": config.attention_cap, "final_logit_softcapping": config.logit_cap}
        every = config.global_every if config.window else 1
        numbers = range(1, config.n_layers + 1)
        given["layer_types"] = [
            "full_attention" if every and number % every == 0 else "sliding_attention" for number in numbers
        ]
    given["rope_parameters"] = rope
    return given

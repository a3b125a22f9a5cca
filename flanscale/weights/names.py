"""Under which name, and in which shape, does Hugging Face keep each parameter of a family?

A parameter is named by its path in the tree, `layers/attention/query`; a tensor of one layer by a pattern with the
layer's number at `{}`. Torch keeps kernels as [out, in], so most are transposed.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from flanscale.errors import WeightsError
from flanscale.schema import ModelConfig


@dataclass(frozen=True)
class Home:
    """Where a parameter lives in Hugging Face's layout."""

    tensor: str  # with {} where a stack's layer number stands
    transposed: bool = False
    part: int | None = None  # which of queries, keys and values, where one tensor holds the three of each head in turn

    def of(self, layer: int | None) -> str:
        return self.tensor if layer is None else self.tensor.format(layer)


def homes(family: str, config: ModelConfig, held: Container[str] = ()) -> dict[str, Home]:
    """Every parameter that a model of this family may have → its home, where names differ that among those held.

    Raises:
        WeightsError: the family has no such blocks.
    """
    if family == "t5":
        return _t5(gated=config.activation in ("geglu", "swiglu"))
    return _gpt_neox(held) if family == "gpt_neox" else _llama(config.block)


def home_of(parameter: str, known: dict[str, Home], family: str) -> Home:
    """The home of a parameter.

    Raises:
        WeightsError: this family has no such parameter.
    """
    if parameter not in known:
        raise WeightsError(
            f"the family {family} has no place for the parameter {parameter}: a model.* option is not its"
        )
    return known[parameter]


SAME_TABLE = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""What older files of T5 call its one table besides `shared.weight`."""


def is_buffer(tensor: str) -> bool:
    """Whether a tensor is one that older files hold beside the parameters, and that follows from the configuration."""
    return tensor.endswith((".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"))


def _llama(block: str) -> dict[str, Home]:
    """Llama, Qwen 2 and 3, OLMo 2, Gemma 1 to 3: the same names but for norms."""
    layer = "model.layers.{}."
    norms = {
        "pre": {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"},
        "post": {"attention_norm": "post_attention_layernorm", "feed_forward_norm": "post_feedforward_layernorm"},
        "sandwich": {
            "attention_norm": "input_layernorm",
            "attention_out_norm": "post_attention_layernorm",
            "feed_forward_norm": "pre_feedforward_layernorm",
            "feed_forward_out_norm": "post_feedforward_layernorm",
        },
    }
    if block not in norms:
        raise WeightsError(f"model.block={block} is none of this family's: {', '.join(norms)}")
    found = {
        "vocabulary/embedding": Home("model.embed_tokens.weight"),
        "vocabulary/head": Home("lm_head.weight", transposed=True),
        "final_norm/scale": Home("model.norm.weight"),
    }
    for ours, theirs in norms[block].items():
        found[f"layers/{ours}/scale"] = Home(f"{layer}{theirs}.weight")
    for ours, theirs in {"query": "q", "key": "k", "value": "v", "out": "o"}.items():
        found[f"layers/attention/{ours}"] = Home(f"{layer}self_attn.{theirs}_proj.weight", transposed=True)
        found[f"layers/attention/{ours}_bias"] = Home(f"{layer}self_attn.{theirs}_proj.bias")
    for ours, theirs in {"query": "q", "key": "k"}.items():
        found[f"layers/attention/{ours}_norm/scale"] = Home(f"{layer}self_attn.{theirs}_norm.weight")
    for name in ("gate", "up", "down"):
        found[f"layers/feed_forward/{name}"] = Home(f"{layer}mlp.{name}_proj.weight", transposed=True)
    return found


def _gpt_neox(held: Container[str]) -> dict[str, Home]:
    layer = "gpt_neox.layers.{}."
    found = {
        "vocabulary/embedding": Home("gpt_neox.embed_in.weight"),
        # transformers 5 calls it so, and reads the older name too.
        "vocabulary/head": Home("lm_head.weight" if "lm_head.weight" in held else "embed_out.weight", transposed=True),
        "final_norm/scale": Home("gpt_neox.final_layer_norm.weight"),
        "final_norm/bias": Home("gpt_neox.final_layer_norm.bias"),
    }
    for ours, theirs in {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}.items():
        found[f"layers/{ours}/scale"] = Home(f"{layer}{theirs}.weight")
        found[f"layers/{ours}/bias"] = Home(f"{layer}{theirs}.bias")
    for part, ours in enumerate(("query", "key", "value")):
        fused = f"{layer}attention.query_key_value"
        found[f"layers/attention/{ours}"] = Home(f"{fused}.weight", transposed=True, part=part)
        found[f"layers/attention/{ours}_bias"] = Home(f"{fused}.bias", part=part)
    for ours, theirs in {
        "attention/out": "attention.dense",
        "feed_forward/up": "mlp.dense_h_to_4h",
        "feed_forward/down": "mlp.dense_4h_to_h",
    }.items():
        found[f"layers/{ours}"] = Home(f"{layer}{theirs}.weight", transposed=True)
        found[f"layers/{ours}_bias"] = Home(f"{layer}{theirs}.bias")
    return found


def _t5(gated: bool) -> dict[str, Home]:
    found = {
        "vocabulary/embedding": Home("shared.weight"),
        "vocabulary/head": Home("lm_head.weight", transposed=True),
    }
    halves = {
        "encoder": {"attention": "SelfAttention", "feed_forward": "DenseReluDense"},
        "decoder": {
            "attention": "SelfAttention",
            "cross_attention": "EncDecAttention",
            "feed_forward": "DenseReluDense",
        },
    }
    for stack, parts in halves.items():
        found[f"{stack}/final_norm/scale"] = Home(f"{stack}.final_layer_norm.weight")
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        found[f"{stack}/position/relative_bias"] = Home(bias)
        for number, (ours, theirs) in enumerate(parts.items()):
            place = f"{stack}.block.{{}}.layer.{number}."
            found[f"{stack}/layers/{ours}_norm/scale"] = Home(f"{place}layer_norm.weight")
            kernels = {"query": "q", "key": "k", "value": "v", "out": "o"}
            if ours == "feed_forward":
                kernels = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
            for name, letter in kernels.items():
                found[f"{stack}/layers/{ours}/{name}"] = Home(f"{place}{theirs}.{letter}.weight", transposed=True)
    return found

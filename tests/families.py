"""One tiny model for every family of architectures: together they use every option of `ModelConfig`."""

from typing import Any

import jax
import numpy as np
from tiny import VOCAB, model, shapes

from flanscale.models import Model, Params

GEMMA = {"norm_offset": True, "scale_embeddings": True, "scale_logits": False, "activation": "geglu", "bos_id": 2}
DECODERS: dict[str, dict[str, Any]] = {
    "palm": {"block": "parallel", "norm": "layer", "n_kv_heads": 1},
    "palm_prefix": {"block": "parallel", "norm": "layer", "n_kv_heads": 1, "prefix_lm": True},
    "neox": {
        "block": "parallel_two_norms", "norm": "layer", "norm_bias": True, "norm_eps": 1e-2, "bias": "all",
        "activation": "gelu_exact", "rope_fraction": 0.5, "tie_embeddings": False, "bos_id": None,
    },
    "llama": {"n_kv_heads": 2, "rope_theta": 1e7, "rope_scaling": 8.0, "tie_embeddings": False, "bos_id": 3},
    "qwen2": {"n_kv_heads": 2, "bias": "qkv", "scale_logits": False, "bos_id": None},
    "qwen3": {"n_kv_heads": 2, "qk_norm": "head", "head_dim": 6, "scale_logits": False},
    "olmo2": {"block": "post", "qk_norm": "projection", "tie_embeddings": False, "activation": "gelu"},
    "gemma2": {
        **GEMMA, "block": "sandwich", "n_kv_heads": 2, "window": 4, "global_every": 2, "attention_cap": 0.5,
        "logit_cap": 1.5,
    },
    "gemma3": {
        **GEMMA, "block": "sandwich", "n_kv_heads": 1, "qk_norm": "head", "window": 3, "global_every": 2,
        "window_rope_theta": 50.0,
    },
    "mistral": {"n_kv_heads": 2, "window": 5, "activation": "relu"},
}  # fmt: skip
LENGTH = 20


def decoder(family: str, **changes: Any) -> Model:
    return model("decoder", **{"n_heads": 4, "head_dim": 4, "n_layers": 2, **DECODERS[family], **changes})


def moved(tiny: Model, seed: int = 0) -> Params:
    """Parameters of the right sizes, with scales and biases away from ones and zeros so that they are seen."""
    rng = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        x, name = rng.normal(0, 1, leaf.shape), path[-1].key
        if name == "scale":
            x = 0.2 * x + (0 if tiny.config.norm_offset else 1)
        elif name.endswith("bias"):
            x = 0.2 * x
        elif name != "embedding" or tiny.config.scale_embeddings or not tiny.config.scale_logits:
            x = x / np.sqrt(leaf.shape[-1] if name == "embedding" else leaf.shape[-2])
        return x.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes(tiny))


def row(*segments: tuple[list[int], int]) -> dict[str, np.ndarray]:
    """One row of `LENGTH` positions that holds segments: the tokens that are read, and how many are of the inputs."""
    fields = {name: np.zeros((1, LENGTH), np.int32) for name in ("input_tokens", "segment_ids", "positions", "prefix")}
    at = 0
    for number, (tokens, inputs) in enumerate(segments):
        here = slice(at, at := at + len(tokens))
        fields["input_tokens"][0, here] = tokens
        fields["segment_ids"][0, here] = number + 1
        fields["positions"][0, here] = np.arange(len(tokens))
        fields["prefix"][0, here] = np.arange(len(tokens)) < inputs
    return {f"decoder_{name}": array for name, array in fields.items()}


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(2, VOCAB, count).tolist()

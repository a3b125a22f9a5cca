"""Models against the published formulas, written out in NumPy in double precision, one example at a time."""

import jax
import numpy as np
import pytest
from tiny import initial, logits, model, packed


def norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def heads(x: np.ndarray, count: int) -> np.ndarray:
    return x.reshape(len(x), count, -1).transpose(1, 0, 2)


def attend(x: np.ndarray, memory: np.ndarray, p: dict, bias: np.ndarray, scale: float, turn=lambda y: y) -> np.ndarray:
    q, k, v = (heads(a @ p[name], 2) for a, name in ((x, "query"), (memory, "key"), (memory, "value")))
    scores = np.einsum("htk,hsk->hts", turn(q), turn(k)) * scale + bias
    return np.einsum("hts,hsk->thk", softmax(scores), v).reshape(len(x), -1) @ p["out"]


def causal(n: int) -> np.ndarray:
    return np.where(np.tri(n, dtype=bool), 0.0, -np.inf)


def rotary(x: np.ndarray) -> np.ndarray:
    """Each pair as a complex number, turned by position × θ^(-2i/K)."""
    half = x.shape[-1] // 2
    z = x[..., :half] + 1j * x[..., half:]
    z = z * np.exp(1j * np.arange(x.shape[1])[:, None] * 10_000.0 ** (-np.arange(half) / half))
    return np.concatenate([z.real, z.imag], axis=-1)


def decoder_logits(p: dict, tokens: list[int]) -> np.ndarray:
    table = p["vocabulary"]["embedding"]
    x = table[[0, *tokens[:-1]]]
    for i in range(2):
        layer = p[f"layer_{i}"]
        h = norm(x, layer["attention_norm"]["scale"])
        x = x + attend(h, h, layer["attention"], causal(len(x)), 8**-0.5, rotary)
        h, f = norm(x, layer["feed_forward_norm"]["scale"]), layer["feed_forward"]
        x = x + (silu(h @ f["gate"]) * (h @ f["up"])) @ f["down"]
    return norm(x, p["final_norm"]["scale"]) @ table.T / np.sqrt(16)


def bucket(offset: int, bidirectional: bool, buckets: int, furthest: int) -> int:
    """T5's rule (arXiv:1910.10683 §2.1) for one offset, in integers: thresholds grow geometrically."""
    side = 0
    if bidirectional:
        buckets //= 2
        side, offset = (buckets if offset > 0 else 0), abs(offset)
    else:
        offset = max(0, -offset)
    exact = buckets // 2
    if offset < exact:
        return side + offset
    logarithmic = buckets - exact
    steps = sum(offset**logarithmic * exact**i >= exact**logarithmic * furthest**i for i in range(1, logarithmic))
    return side + exact + steps


def relative(table: np.ndarray, n: int, bidirectional: bool) -> np.ndarray:
    at = np.array([[bucket(s - t, bidirectional, 8, 16) for s in range(n)] for t in range(n)])
    return table[at].transpose(2, 0, 1)


def t5_logits(p: dict, source: list[int], target: list[int]) -> np.ndarray:
    def feed_forward(x: np.ndarray, layer: dict) -> np.ndarray:
        h, f = norm(x, layer["feed_forward_norm"]["scale"]), layer["feed_forward"]
        return x + (gelu(h @ f["gate"]) * (h @ f["up"])) @ f["down"]

    table, encoder, decoder = p["vocabulary"]["embedding"], p["encoder"], p["decoder"]
    x = table[[*source, 1]]
    bias = relative(encoder["position"]["relative_bias"], len(x), bidirectional=True)
    for i in range(2):
        layer = encoder[f"layer_{i}"]
        h = norm(x, layer["attention_norm"]["scale"])
        x = feed_forward(x + attend(h, h, layer["attention"], bias, 1.0), layer)
    encoded = norm(x, encoder["final_norm"]["scale"])

    y = table[[0, *target]]
    bias = relative(decoder["position"]["relative_bias"], len(y), bidirectional=False) + causal(len(y))
    for i in range(2):
        layer = decoder[f"layer_{i}"]
        h = norm(y, layer["attention_norm"]["scale"])
        y = y + attend(h, h, layer["attention"], bias, 1.0)
        h = norm(y, layer["cross_attention_norm"]["scale"])
        y = feed_forward(y + attend(h, encoded, layer["cross_attention"], np.zeros(()), 1.0), layer)
    return norm(y, decoder["final_norm"]["scale"]) @ p["vocabulary"]["head"]


def doubled(params: dict) -> dict:
    """Parameters in float64, the scales of norms moved away from one so that they are seen."""
    rng = np.random.default_rng(0)

    def change(path: tuple, leaf: jax.Array) -> np.ndarray:
        value = np.asarray(leaf, np.float64)
        return value + rng.normal(0, 0.1, value.shape) if path[-1].key == "scale" else value

    return jax.tree_util.tree_map_with_path(change, params)


@pytest.mark.parametrize("length", [1, 12])
def test_the_decoder_is_prenorm_rotary_swiglu_with_a_tied_scaled_head(length: int) -> None:
    tiny = model("decoder")
    params = doubled(initial(tiny))
    source, target = np.random.default_rng(1).integers(2, 32, (2, length)).tolist()
    tokens = [*source, *target, 1]
    single = jax.tree.map(lambda x: x.astype(np.float32), params)
    result = logits(tiny, single, packed("decoder", [source], [target]))[0, : len(tokens)]
    np.testing.assert_allclose(result, decoder_logits(params, tokens), atol=2e-5)


@pytest.mark.parametrize("length", [1, 15])
def test_t5_is_prenorm_with_bucketed_relative_bias_geglu_and_an_untied_head(length: int) -> None:
    tiny = model("encoder_decoder")
    params = doubled(initial(tiny))
    source, target = np.random.default_rng(1).integers(2, 32, (2, length)).tolist()
    single = jax.tree.map(lambda x: x.astype(np.float32), params)
    result = logits(tiny, single, packed("encoder_decoder", [source], [target]))[0, : length + 1]
    np.testing.assert_allclose(result, t5_logits(params, source, target), atol=2e-5)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 16)])
def test_relative_buckets_follow_t5_at_every_distance(bidirectional: bool, buckets: int, furthest: int) -> None:
    from flanscale.models.layers import relative_bucket

    offsets = np.arange(-2 * furthest, 2 * furthest + 1)
    expected = [bucket(int(offset), bidirectional, buckets, furthest) for offset in offsets]
    assert relative_bucket(offsets[None], bidirectional, buckets, furthest)[0].tolist() == expected
    assert set(expected) == set(range(buckets)) if bidirectional is False else max(expected) == buckets - 1

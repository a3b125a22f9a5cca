"""How long does attention take, forward and backward, is it right, and does it keep packed segments apart?

One command: `python benchmarks/attention.py --device gpu --precision bfloat16`; a JSON line for each figure. The peer
is `jax.nn.dot_product_attention`, as XLA compiles it and as cuDNN computes it. Ends with an error where the project's
own is wrong; of a peer that cannot do a shape here the line says why.

Dimensions: B rows, T positions, H query heads, N key and value heads, K width of a head.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}  # of the largest entry


@dataclass(frozen=True)
class Shape:
    """Of one layer's attention. T5's has a relative bias for all rows and no scale; a decoder's is causal."""

    name: str
    rows: int
    heads: int
    kv_heads: int
    length: int
    width: int = 64
    t5: bool = False

    @property
    def scale(self) -> float:
        return 1.0 if self.t5 else self.width**-0.5


SHAPES = (
    Shape("Llama-3.2-1B", 8, 32, 8, 2048),
    Shape("T5-base encoder", 64, 12, 12, 512, t5=True),
    Shape("T5-XL encoder", 8, 32, 32, 1024, t5=True),
)
CHECKED = [Shape(name, 2, 8, kv_heads, 256) for name, kv_heads in (("MHA", 8), ("GQA", 2), ("MQA", 1))]
CHECKED.append(Shape("T5", 2, 8, 8, 256, t5=True))
PERTURBED = 2  # the segment


class Inputs(NamedTuple):
    """What is differentiated: q [B, H, T, K], k and v [B, N, T, K] and, of T5, the relative bias [1, H, T, T]."""

    q: Any
    k: Any
    v: Any
    bias: Any = None


Attend = Callable[[Shape, Inputs, Any], Any]  # (shape, inputs, segments [B, T]) → [B, H, T, K]


# --- who attends --------------------------------------------------------------------------------------------------


def ours(shape: Shape, inputs: Inputs, segments: Any, *, by: str) -> Any:
    """The project's attention on packed rows, as its models call it."""
    from flanscale.models.attend import prepare
    from flanscale.models.masks import Mask
    from flanscale.schema import ModelConfig

    config = ModelConfig(
        name=shape.name,
        architecture="encoder_decoder" if shape.t5 else "decoder",
        d_model=shape.heads * shape.width,
        n_layers=1,
        n_heads=shape.heads,
        n_kv_heads=shape.kv_heads,
        head_dim=shape.width,
        d_ff=1,
    )
    attend = prepare(by, config, Mask.packed(segments, segments, causal=not shape.t5), inputs.bias)
    return attend(inputs.q * shape.scale, inputs.k, inputs.v)


def theirs(shape: Shape, inputs: Inputs, segments: Any, *, by: str, segments_as: str) -> Any:
    """JAX's, on [B, T, H, K]. Segments go in as a mask, as a bias, or not at all: then all of a row is one."""
    import jax

    from flanscale.models.masks import Mask, as_bias

    mask = Mask.packed(segments, segments, causal=not shape.t5).dense()
    how: dict[str, Any] = {"scale": shape.scale, "implementation": by}
    if segments_as == "mask":
        how |= {"mask": mask, "bias": inputs.bias}
    elif segments_as == "bias":
        how["bias"] = as_bias(mask).astype(inputs.q.dtype) + (0 if inputs.bias is None else inputs.bias)
    else:
        how |= {"is_causal": not shape.t5, "bias": inputs.bias}
    return jax.nn.dot_product_attention(inputs.q, inputs.k, inputs.v, **how)


@dataclass(frozen=True)
class Variant:
    """A way to compute it, and whether positions stand before heads in its arrays and it tells segments apart."""

    name: str
    attend: Attend
    positions_first: bool
    packed: bool

    def laid_out(self, x: Any) -> Any:
        return np.swapaxes(x, 1, 2) if self.positions_first else x


OURS = {by: Variant(f"flanscale, {by}", partial(ours, by=by), False, True) for by in ("cudnn", "xla")}
PEERS = [
    Variant(f"{name}, {words}", partial(theirs, by=by, segments_as=segments_as), True, segments_as != "nothing")
    for name, by, segments_as, words in (
        ("cuDNN", "cudnn", "nothing", "no segments"),
        ("cuDNN", "cudnn", "mask", "mask"),
        ("cuDNN", "cudnn", "bias", "bias"),
        ("XLA", "xla", "nothing", "no segments"),
    )
]


def run(variant: Variant, shape: Shape) -> Callable[[Inputs, Any, Any], Any]:
    """The jitted (inputs, segments, gradient of the output) → (output, gradients), all as the variant lays them out."""
    import jax

    def value_and_gradients(inputs: Inputs, segments: Any, upstream: Any) -> Any:
        y, backward = jax.vjp(lambda given: variant.attend(shape, given, segments), inputs)
        return y, backward(upstream.astype(y.dtype))[0]

    return jax.jit(value_and_gradients)


def placed(variant: Variant, precision: str, inputs: Inputs, upstream: Any) -> tuple[Inputs, Any]:
    import jax.numpy as jnp

    arrays = [variant.laid_out(x) for x in (*inputs[:3], upstream)]
    q, k, v, out = (jnp.asarray(x, precision) for x in arrays)
    return Inputs(q, k, v, None if inputs.bias is None else jnp.asarray(inputs.bias, precision)), out


@lru_cache(maxsize=1)
def drawn(shape: Shape) -> tuple[Inputs, np.ndarray, np.ndarray]:
    """(inputs, segments, gradient of the output), float32; three segments and some padding in every row."""
    rng = np.random.default_rng(0)
    queries = (shape.rows, shape.heads, shape.length, shape.width)
    keys = (shape.rows, shape.kv_heads, shape.length, shape.width)
    q, k, v, upstream = (rng.standard_normal(size, np.float32) for size in (queries, keys, keys, queries))
    bias = rng.standard_normal((1, shape.heads, shape.length, shape.length), np.float32) if shape.t5 else None
    q = q / shape.width**0.5 if shape.t5 else q  # T5 has its scale in the kernel
    cuts = np.sort(rng.integers(1, shape.length, (shape.rows, 3)), axis=1)
    segments = 1 + (np.arange(shape.length) >= cuts[:, :, None]).sum(axis=1)
    return Inputs(q, k, v, bias), np.where(segments == 4, 0, segments).astype(np.int32), upstream


# --- how long -----------------------------------------------------------------------------------------------------


def measured(variant: Variant, shape: Shape, precision: str, repeats: int) -> float:
    """Milliseconds of a forward and backward pass."""
    import jax

    inputs, segments, upstream = drawn(shape)
    inputs, upstream = placed(variant, precision, inputs, upstream)
    segments = jax.device_put(segments)
    call, times = run(variant, shape), []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        jax.block_until_ready(call(inputs, segments, upstream))
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[2:])


def products(size: int, precision: str) -> float:
    """TFLOP/s of square matrix products, in a row of ten."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(jnp.matmul)
    a, b = (jax.random.normal(jax.random.key(i), (size, size), precision) for i in range(2))
    jax.block_until_ready(product(a, b))
    began = time.perf_counter()
    jax.block_until_ready([product(a, b) for _ in range(10)])
    return 10 * 2 * size**3 / (time.perf_counter() - began) / 1e12


# --- how right ----------------------------------------------------------------------------------------------------


def by_definition(shape: Shape, inputs: Inputs, segments: np.ndarray, upstream: np.ndarray) -> list[np.ndarray]:
    """Output and gradients of q, k, v and the bias in float64, by the chain rule."""
    groups = shape.heads // shape.kv_heads
    q, k, v, out = (np.asarray(x, np.float64) for x in (*inputs[:3], upstream))
    k, v = (np.repeat(x, groups, axis=1) for x in (k, v))
    visible = segments[:, None, :, None] == segments[:, None, None, :]
    if not shape.t5:
        visible &= np.tri(shape.length, dtype=bool)
    scores = shape.scale * q @ k.swapaxes(-1, -2) + (0 if inputs.bias is None else np.float64(inputs.bias))
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    dweights = out @ v.swapaxes(-1, -2)
    dscores = weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))
    dk, dv = shape.scale * dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ out
    dk, dv = (x.reshape(shape.rows, -1, groups, *x.shape[2:]).sum(axis=2) for x in (dk, dv))
    return [weights @ v, shape.scale * dscores @ k, dk, dv, dscores.sum(axis=0, keepdims=True)]


def errors(variant: Variant, shape: Shape, precision: str) -> dict[str, float]:
    """The largest error of the output and of each gradient, as a share of the largest entry."""
    inputs, segments, upstream = drawn(shape)
    given, out = placed(variant, precision, inputs, upstream)
    rounded = Inputs(*(None if x is None else np.asarray(x, np.float32) for x in given))
    rounded = Inputs(*(variant.laid_out(x) for x in rounded[:3]), rounded.bias)
    expected = by_definition(shape, rounded, segments, variant.laid_out(np.asarray(out, np.float32)))
    y, gradients = run(variant, shape)(given, segments, out)
    got = [variant.laid_out(np.asarray(x, np.float32)) for x in (y, *gradients[:3])]
    if gradients.bias is not None:
        got.append(np.asarray(gradients.bias, np.float32))
    names = ("output", "dq", "dk", "dv", "dbias")
    return {
        name: float(np.abs(a - b).max() / np.abs(b).max()) for name, a, b in zip(names, got, expected, strict=False)
    }


def leak(variant: Variant, shape: Shape, precision: str) -> float:
    """How much outputs and gradients of all other segments change with one segment of the first row, relatively."""
    inputs, segments, upstream = drawn(shape)
    here = (segments[0] == PERTURBED)[:, None]
    changed = [x.copy() for x in (*inputs[:3], upstream)]
    for x in changed:
        x[0] = np.where(here, 3 - x[0], x[0])
    call, others = run(variant, shape), np.ones(segments.shape, bool)
    others[0] = ~here[:, 0]
    results = []
    for q, k, v, out in ((*inputs[:3], upstream), changed):
        given, out = placed(variant, precision, Inputs(q, k, v, inputs.bias), out)
        y, gradients = call(given, segments, out)
        results.append([variant.laid_out(np.asarray(x, np.float32)) for x in (y, *gradients[:3])])
    change = 0.0
    for a, b in zip(*results, strict=True):
        a, b = (np.moveaxis(x, 2, 1)[others] for x in (a, b))
        change = max(change, float(np.abs(a - b).max() / np.abs(a).max()))
    return change


# --- all of it ----------------------------------------------------------------------------------------------------


def lines(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is told, the project's own before its peers."""
    precision = options.precision
    own = list(OURS.values()) if options.device == "gpu" else [OURS["xla"]]
    yield {"what": f"matrix products of {options.products}²", "tflops": products(options.products, precision)}
    yield from (_tried(_checked, variant, shape, precision) for variant in own for shape in CHECKED)
    for shape in SHAPES:
        smaller = replace(shape, rows=max(1, shape.rows // options.divide), length=shape.length // options.divide)
        yield from (_tried(_timed, variant, smaller, precision, options.repeats) for variant in (*own, *PEERS))
    packed = [variant for variant in PEERS if variant.packed]
    yield from (_tried(_checked, variant, shape, precision) for shape in CHECKED for variant in packed)


def _checked(variant: Variant, shape: Shape, precision: str) -> dict[str, Any]:
    found = errors(variant, shape, precision) | {"others change": leak(variant, shape, precision)}
    limit = TOLERANCE[precision]
    right = all(error <= limit for error in found.values())
    return found if right else found | {"error": f"above {limit:g} of the largest entry"}


def _timed(variant: Variant, shape: Shape, precision: str, repeats: int) -> dict[str, Any]:
    return {"ms": measured(variant, shape, precision, repeats)}


def _tried(measure: Callable[..., dict[str, Any]], variant: Variant, shape: Shape, *rest: Any) -> dict[str, Any]:
    what = {"what": f"{shape.name} {shape.rows}×{shape.length}, {variant.name}"}
    try:
        return what | measure(variant, shape, *rest)
    except Exception as error:  # whatever a library says that cannot do it
        return what | {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--precision", choices=tuple(TOLERANCE), default="float32")
    parser.add_argument("--divide", type=int, default=1, help="rows and positions of the timed shapes by this")
    parser.add_argument("--products", type=int, default=8192, help="side of the matrices")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    wrong = []
    for line in lines(options):
        print(json.dumps(line, ensure_ascii=False), flush=True)
        if "error" in line and ", flanscale, " in line["what"]:
            wrong.append(line["what"])
    if wrong:
        raise SystemExit(f"wrong: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()

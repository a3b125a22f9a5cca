"""How long does a training step take? A roofline for any model, mesh, batch and remat, of what a chip can.

Standard library only: planning predicts without loading JAX. On a device, products and the traffic of memory between
them follow each other; what `fsdp` gathers and scatters and `data` sums goes over the links beside them, and only what
takes longer than they do is waited for; sums of activations over `tensor` are waited for.

Not counted: starting a kernel, which is what takes long in models as small as those of the quick study; input, logging,
checkpoints and evaluation. docs/tuning.md compares with what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from flanscale.chips import Chip
from flanscale.schema import MeshConfig, ModelConfig, OptimizerConfig, TrainerConfig
from flanscale.sizing.architecture import code_width, coded
from flanscale.sizing.flops import (
    FLOAT32,
    Tensor,
    bytes_on_device,
    kernels,
    parameters,
    predicted,
    seen_pairs,
    split_in,
)
from flanscale.sizing.memory import Footprint

# What is attained of a data sheet's rates.
PRODUCTS = 0.7  # 688 of 989 TFLOP/s, measured for 8192 × 8192 × 8192 on an H100
MEMORY = 0.9  # assumed
LINKS = 0.8  # assumed
# Of peak, in attention's fused kernels: cuDNN's takes 1.95 ms on an H100, forward and backward, for 8 × 32 × 2048 × 64,
# causal, and 6.70 with a bias and all pairs. Assumed of TPUs' too.
FUSED, FUSED_BIASED = 0.21, 0.12

# Kernels that the backward pass multiplies with again, by `model.remat` and by what they are of; auto keeps everything
# here, as in `sizing.memory`.
AGAIN: dict[str, tuple[str, ...]] = {
    "auto": (),
    "none": (),
    "dots": (),
    "attention": ("feed_forward",),
    "full": ("attention", "feed_forward"),
}
# But those whose product is only added to something, by `model.block` and by the axis that they sum over.
ADDED = {"pre": ("ff",), "parallel": ("ff", "heads"), "parallel_two_norms": ("ff", "heads"), "post": (), "sandwich": ()}

# Bytes in memory for each score of attention in plain XLA: float32 ones, and times that exponentials in the precision
# of the products go through. In bfloat16 16 and 24: 14 of the 15.4 ms that an H100 takes at the size above.
SCORES_FORWARD, EXPONENTIALS_FORWARD = 12, 2
SCORES_BACKWARD, EXPONENTIALS_BACKWARD = 12, 6
BIASES_FORWARD, BIASES_BACKWARD = 4, 12  # of T5's relative positions: read; made, and added to those of other layers
LOGITS, SLOPES = 3, 3  # times that logits do in float32, and their gradient in the precision of the products
STACKED = 4  # times that what a scan saves goes through memory once more: into its stack, and out of it
# Times that parameters do: gradients for their norm and for the update; in each of Muon's five steps all kernels four.
UPDATE = {"adamw": 4, "adafactor": 8, "muon": 24}


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step."""

    products: float
    memory: float
    beside: float  # of links, while products and memory are at work
    between: float  # of links, while they wait

    @property
    def links(self) -> float:
        """That everything waits for."""
        return max(0.0, self.beside - self.products - self.memory) + self.between

    @property
    def total(self) -> float:
        return self.products + self.memory + self.links

    @property
    def bound(self) -> str:
        """What would have to be faster: `products`, `memory` or `links`."""
        if self.beside > self.products + self.memory:
            return "links"
        parts = {"products": self.products, "memory": self.memory, "links": self.between}
        return max(parts, key=lambda part: parts[part])


def step_time(
    model: ModelConfig,
    vocab_size: int,
    optimizer: OptimizerConfig,
    trainer: TrainerConfig,
    chip: Chip,
    taken: Footprint,
    attention: str = "xla",
) -> StepTime:
    """The time of one step on the trainer's mesh of a chip.

    Args:
        vocab_size: what the tokenizer needs; the model's own, where it has one, goes before it.
        taken: the step's memory.
        attention: who computes it (`architecture.attention_of`).
    """
    part = _Part(model, model.vocab_size or vocab_size, trainer, chip, attention)
    memory = part.memory() + (STACKED * taken.activations if model.scan else 0)
    update = UPDATE[optimizer.name] * taken.parameters + 2 * taken.optimizer
    return StepTime(
        products=trainer.microbatches * part.products(),
        memory=(trainer.microbatches * memory + update) / (MEMORY * chip.bandwidth),
        beside=trainer.microbatches * part.beside(),
        between=trainer.microbatches * part.between(),
    )


@dataclass(frozen=True)
class _Part:
    """One microbatch on one device."""

    model: ModelConfig
    vocab: int
    trainer: TrainerConfig
    chip: Chip
    attention: str

    @property
    def rows(self) -> int:
        mesh = self.trainer.mesh
        return math.ceil(self.trainer.batch_rows / (self.trainer.microbatches * mesh.data * mesh.fsdp))

    @property
    def width(self) -> int:
        """Bytes of a value in the precision of the products."""
        return FLOAT32 if self.trainer.precision == "float32" else 2

    @property
    def heads(self) -> float:
        return self.model.n_heads / split_in(self.model.n_heads, self.trainer.mesh.tensor)

    @property
    def logits(self) -> float:
        positions = predicted(self.model, self.trainer.input_tokens, self.trainer.target_tokens)
        return self.rows * positions * self.vocab / split_in(self.vocab, self.trainer.mesh.tensor)

    @property
    def entries(self) -> float:
        """Of kernels and tables that a device multiplies with."""
        return sum(self._local(tensor) for tensor in parameters(self.model, self.vocab))

    def products(self) -> float:
        """Seconds."""
        m, t, chip = self.model, self.trainer, self.chip
        peak = chip.peak_flops if t.precision == "bfloat16" and chip.has_bfloat16 else chip.float32_flops
        layers = sum(2 * tokens * self._local(kernel) * self._passes(kernel) for tokens, kernel in self._kernels())
        flops = self.rows * layers + 3 * 2 * m.d_model * self.logits
        width = m.head_dim + code_width(m, self.attention)
        attention = self.rows * 4 * self.heads * width * self._pairs() * (3 + self._attention_again())
        return (flops / PRODUCTS + attention / self._share()) / peak

    def memory(self) -> float:
        """Bytes, without the update and what a scan stacks."""
        t, width = self.trainer, self.width
        between = width * sum(
            self._passes(kernel) * self.model.n_layers * tokens * self._sides(kernel)
            for tokens, kernel in self._kernels()
        )  # as much between the products as goes into and out of them
        scores = 0.0
        if self.attention == "xla":
            biased = self.model.architecture == "encoder_decoder"
            forward = SCORES_FORWARD + EXPONENTIALS_FORWARD * width + biased * BIASES_FORWARD
            backward = SCORES_BACKWARD + EXPONENTIALS_BACKWARD * width + biased * BIASES_BACKWARD
            scores = self.heads * self._pairs() * (forward * (1 + self._attention_again()) + backward)
        read = 3 * self.entries + sum(self._local(kernel) * (self._passes(kernel) - 3) for _, kernel in self._kernels())
        cast = (FLOAT32 + width) / t.mesh.fsdp
        summed = 3 * FLOAT32 / t.mesh.fsdp if t.microbatches > 1 else 0
        kernels = width * read + (cast + FLOAT32 + summed) * self.entries
        return self.rows * (between + scores) + (LOGITS * FLOAT32 + SLOPES * width) * self.logits + kernels

    def beside(self) -> float:
        """Seconds."""
        mesh, entries = self.trainer.mesh, self.entries
        gathered = (2 * self.width + FLOAT32) * entries  # for both passes; the gradient is scattered
        summed = 2 * FLOAT32 * entries / mesh.fsdp
        return self._ring(gathered, mesh.fsdp, mesh.tensor) + self._ring(summed, mesh.data, mesh.fsdp * mesh.tensor)

    def between(self) -> float:
        """Seconds."""
        m, t = self.model, self.trainer
        added = ((tokens, kernel) for tokens, kernel in self._kernels() if kernel.axes[0] != "embed")
        sums = sum(tokens * (self._passes(kernel) - 1) for tokens, kernel in added)  # its own gradient asks for none
        positions = t.input_tokens + t.target_tokens + predicted(m, t.input_tokens, t.target_tokens)
        values = self.rows * m.d_model * (m.n_layers * sums + positions)
        return self._ring(2 * self.width * values, t.mesh.tensor, 1)

    def _kernels(self) -> Iterator[tuple[int, Tensor]]:
        return kernels(self.model, self.trainer.input_tokens, self.trainer.target_tokens)

    def _local(self, tensor: Tensor) -> float:
        """Entries in all layers that a device multiplies with, gathered over `fsdp`."""
        return bytes_on_device(tensor, MeshConfig(tensor=self.trainer.mesh.tensor), self.model) / FLOAT32

    def _passes(self, kernel: Tensor) -> int:
        """Products with a kernel: forward, by its inputs and by itself, and again where those were not kept."""
        of = "feed_forward" if "ff" in kernel.axes else "attention"
        return 3 + (of in AGAIN[self.model.remat] and kernel.axes[0] not in ADDED[self.model.block])

    def _attention_again(self) -> bool:
        """Whether attention is computed twice; fused kernels' outputs are kept wherever their inputs are."""
        return self.model.remat not in ("auto", "none") if self.attention == "xla" else self.model.remat == "full"

    def _share(self) -> float:
        """Of peak, that attention's products attain."""
        if self.attention == "xla":
            return PRODUCTS
        return FUSED_BIASED if self.model.architecture == "encoder_decoder" else FUSED

    def _pairs(self) -> float:
        """Pairs of positions of one row and head in all layers: all, or those seen where a kernel knows the mask."""
        m, (s, t) = self.model, (self.trainer.input_tokens, self.trainer.target_tokens)
        if self.attention == "splash" or (self.attention == "cudnn" and coded(m)):
            return seen_pairs(m, s, t)
        return m.n_layers * ((s + t) ** 2 if m.architecture == "decoder" else s * s + t * (t + s))

    def _sides(self, kernel: Tensor) -> float:
        """Values of a token that go into a product and come out of it."""
        return sum(self._split(size, axis) for size, axis in zip(kernel.shape, kernel.axes, strict=True))

    def _split(self, size: int, axis: str | None) -> float:
        if axis == "embed":
            return size
        parts = self.model.kv_heads if axis == "kv_heads" else size
        return size / split_in(parts, self.trainer.mesh.tensor)

    def _ring(self, size: float, ways: int, stride: int) -> float:
        """Seconds until each of `ways` devices, `stride` apart, has so many bytes, of which one share is its own."""
        near = max(1, min(ways, self.chip.node // stride))
        nodes = math.ceil(ways / near)
        inside = size * (near - 1) / near / self.chip.link
        outside = size * (nodes - 1) / nodes / near / self.chip.network
        return max(inside, outside) / LINKS

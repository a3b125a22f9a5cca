"""How much memory does a training step take on each device? Counted from shapes, for any model, mesh, batch and remat.

Standard library only: planning counts without loading JAX, and training explains running out of memory with it. The
state is exact, laid out as `flanscale.models.sharding` does. Activations are what the code of `flanscale.models` saves
for the backward pass under each `model.remat`; what the compiler holds beside them is a fit to what XLA plans
(docs/memory.md has the comparison).

Dimensions: B rows on a device, S encoder positions, T decoder positions, D model width, F feed-forward width, H heads,
K width of a head, N key and value heads, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flanscale.chips import GIB
from flanscale.schema import MeshConfig, ModelConfig, OptimizerConfig, TrainerConfig
from flanscale.sizing.flops import FLOAT32, NORMS, Tensor, bytes_on_device, gated, parameters, split_in

RESERVE = 0.1  # of a device's memory: lost to fragments, to programs and to communication buffers
LOGITS_AT_ONCE = 2**28  # elements: 1 GiB of float32 on all devices together; above it the loss goes in chunks
LOGITS_COPIES = 2.5  # 2 on TPU, 3 on CPU
LEAST_FACTORED = 128  # Adafactor factors a parameter where both sides are at least this


@dataclass(frozen=True)
class Footprint:
    """Bytes on each device. The parts need not be held at the same moment: `total` is of the worst one."""

    parameters: float  # float32
    optimizer: float
    gradients: float  # float32
    kernels: float  # copies of kernels in the precision of the products, and those gathered from other shards
    activations: float  # saved for the backward pass, over all layers
    logits: float  # and their gradient, of one chunk
    working: float  # while the backward pass is in one layer
    rows: float  # of the batch
    total: float

    @property
    def state(self) -> float:
        """What a checkpoint holds."""
        return self.parameters + self.optimizer

    def fits(self, memory: float) -> bool:
        """Whether a device of so many bytes holds it, with the reserve."""
        return self.total <= memory * (1 - RESERVE)

    def words(self) -> str:
        """The parts in one line."""
        parts = ("parameters", "optimizer", "gradients", "kernels", "activations", "logits", "working")
        return ", ".join(f"{part} {getattr(self, part) / GIB:.3g}" for part in parts)


def footprint(model: ModelConfig, vocab_size: int, optimizer: OptimizerConfig, trainer: TrainerConfig) -> Footprint:
    """The memory of one training step.

    `vocab_size` is what the tokenizer needs; the model's own, where it has one, goes before it.
    """
    vocab, mesh, parts = model.vocab_size or vocab_size, trainer.mesh, trainer.microbatches
    tensors = list(parameters(model, vocab))
    state = [bytes_on_device(tensor, mesh, model) for tensor in tensors]
    layers = sum(size for size, tensor in zip(state, tensors, strict=True) if tensor.layers)
    held = sum(state)
    stacks = _stacks(model, trainer)
    act = _Activations(model, mesh, width := 4 if trainer.precision == "float32" else 2)
    saved = sum(act.saved(stack) for stack in stacks) + sum(act.biases(stack) for stack in stacks)
    logits = _logits(model, vocab, trainer)
    kernels = _kernels(model, mesh, layers, width) + _table(model, vocab, mesh, width)
    working = max(act.working(stack) for stack in stacks)
    gradients = held if parts == 1 else 2 * held  # of the part, and their sum
    moments = sum(_moments(tensor, optimizer, mesh, model) for tensor in tensors)
    rows = 4 * sum(stack.rows * stack.tokens * (5 if stack.decodes else 3) for stack in stacks) * parts
    sums = held if parts > 1 else 0.0
    at_the_logits = saved + kernels + logits + sums
    in_a_layer = saved + kernels + gradients + working
    in_the_update = gradients + max(state)
    return Footprint(
        parameters=held,
        optimizer=moments,
        gradients=gradients,
        kernels=kernels,
        activations=saved,
        logits=logits,
        working=working,
        rows=rows,
        total=held + moments + rows + max(at_the_logits, in_a_layer, in_the_update),
    )


def logit_chunks(rows: int, length: int, vocab: int) -> int:
    """How many equal stretches of positions the loss of a batch is computed in, one at a time.

    A power of two that divides the length: the least with which no more than `LOGITS_AT_ONCE` logits are held, or the
    largest that there is. Positions are split because rows may lie on several devices.
    """
    chunks = 1
    while rows * (length // chunks) * vocab > LOGITS_AT_ONCE and length % (2 * chunks) == 0:
        chunks *= 2
    return chunks


def _moments(tensor: Tensor, optimizer: OptimizerConfig, mesh: MeshConfig, model: ModelConfig) -> float:
    """AdamW keeps two moments of every parameter; Adafactor a row and a column of each large enough, else one."""
    whole = bytes_on_device(tensor, mesh, model)
    if optimizer.name == "adamw":
        return 2 * whole
    if len(tensor.shape) == 2 and min(tensor.shape) >= LEAST_FACTORED:
        return FLOAT32 * sum(tensor.shape) * max(tensor.layers, 1)  # every device has them all
    return whole


# --- activations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """Layers over rows of so many tokens, on one device; a T5 decoder also looks at an encoder's."""

    rows: int
    tokens: int
    seen: int = 0  # encoder positions
    decodes: bool = True


def _stacks(model: ModelConfig, trainer: TrainerConfig) -> list[Stack]:
    mesh = trainer.mesh
    rows = math.ceil(trainer.batch_rows / (trainer.microbatches * mesh.data * mesh.fsdp))
    if model.architecture == "decoder":
        return [Stack(rows, trainer.input_tokens + trainer.target_tokens)]
    encoder, decoder = trainer.input_tokens, trainer.target_tokens
    return [Stack(rows, encoder, decodes=False), Stack(rows, decoder, seen=encoder)]


# Values of width F from the products up to the last: all that the derivative asks for, and what it follows from.
_INNER = {"relu": 1.5, "gelu": 6, "gelu_exact": 4, "geglu": 8, "swiglu": 6}
_INNER_FUSED = {"relu": 1, "gelu": 2, "gelu_exact": 2, "geglu": 3, "swiglu": 3}


@dataclass(frozen=True)
class _Activations:
    """Bytes of what layers hold; `width` is that of one value in the precision of the products."""

    model: ModelConfig
    mesh: MeshConfig
    width: int

    def saved(self, stack: Stack) -> float:
        """Over all layers, from the forward pass until the backward pass comes by."""
        whole = self._everything if self.model.scan else self._fused
        per_layer = {"none": whole, "dots": self._products, "full": self._input}[self.model.remat](stack)
        return self.model.n_layers * stack.rows * per_layer

    def biases(self, stack: Stack) -> float:
        """Masks and relative positions, added to the scores of all layers: [B, 1, T, S] or [B, H, T, S], float32."""
        m, pairs = self.model, stack.rows * stack.tokens**2 * FLOAT32
        if m.architecture == "decoder":
            groups = m.n_heads // m.kv_heads
            copies = 2 if m.window else 1
            return pairs * copies * (1 + (groups if groups > 1 else 0))
        own = 2 * pairs * m.n_heads / split_in(m.n_heads, self.mesh.tensor)  # and its gradient
        return own + stack.rows * stack.tokens * stack.seen * FLOAT32

    def working(self, stack: Stack) -> float:
        """While the backward pass is in a layer: what it computes again, and gradients of scores and of the halves."""
        again = 0.0 if self.model.remat == "none" else stack.rows * self._fused(stack)
        scores = 2 * stack.rows * self._scores(stack) * FLOAT32
        inner = 3 * stack.rows * stack.tokens * self._ff * self.width
        return again + max(scores, inner)

    @property
    def _ff(self) -> float:
        return self.model.d_ff / split_in(self.model.d_ff, self.mesh.tensor)

    @property
    def _heads(self) -> float:
        """Width of all query heads."""
        return self.model.n_heads * self.model.head_dim / split_in(self.model.n_heads, self.mesh.tensor)

    @property
    def _keys(self) -> float:
        return self.model.kv_heads * self.model.head_dim / split_in(self.model.kv_heads, self.mesh.tensor)

    def _scores(self, stack: Stack) -> float:
        """Pairs of one row: own and, in a T5 decoder, the encoder's."""
        return (
            stack.tokens
            * (stack.tokens + stack.seen)
            * self.model.n_heads
            / split_in(self.model.n_heads, self.mesh.tensor)
        )

    def _everything(self, stack: Stack) -> float:
        """Of one row of one layer of a scan: all that differentiation saves, though much follows from the rest."""
        m, wide, crosses = self.model, FLOAT32, self._crosses(stack)
        inputs = 3 + (2 if gated(m) else 1) + crosses
        d = m.d_model * (inputs * self.width + 2 * self._norms(stack) * wide)
        attention = (1 + crosses) * self._heads * (2 * self.width + wide) + 2 * self._keys * self.width
        if m.qk_norm != "none":
            attention += 2 * (self._heads + self._keys) * wide
        inner = _INNER[m.activation] * self._ff * self.width
        scores = self._scores(stack) * (self.width if m.attention_cap is None else self.width + 3 * wide)
        return stack.tokens * (d + attention + inner + self._masks(stack)) + scores + self._encoded(stack)

    def _fused(self, stack: Stack) -> float:
        """Of one row of one layer by itself: inputs and outputs of products; XLA computes what lies between again."""
        m, crosses = self.model, self._crosses(stack)
        d = 2 * self._norms(stack) * m.d_model
        attention = 2 * (1 + crosses) * self._heads + 2 * self._keys
        if m.qk_norm != "none":
            attention += self._heads + self._keys
        inner = _INNER_FUSED[m.activation] * self._ff
        scores = self._scores(stack) * (self.width if m.attention_cap is None else self.width + FLOAT32)
        return (
            stack.tokens * (self.width * (d + attention + inner) + self._masks(stack)) + scores + self._encoded(stack)
        )

    def _crosses(self, stack: Stack) -> int:
        return 1 if stack.seen else 0

    def _norms(self, stack: Stack) -> int:
        m = self.model
        return 2 + self._crosses(stack) if m.architecture == "encoder_decoder" else NORMS[m.block]

    def _masks(self, stack: Stack) -> float:
        """Bytes of dropout's for one token, one for each value."""
        m = self.model
        return (2 + self._crosses(stack)) * m.d_model + self._ff + self._keys if m.dropout else 0.0

    def _encoded(self, stack: Stack) -> float:
        """Keys and values of what the encoder gave, for one row."""
        return stack.seen * 2 * self._keys * self.width

    def _products(self, stack: Stack) -> float:
        """Of one row of one layer: its input, and the outputs of kernels that something other than a sum follows."""
        m, crosses = self.model, self._crosses(stack)
        halves = {"pre": 1, "parallel": 0, "parallel_two_norms": 0, "post": 2, "sandwich": 2}[m.block]
        products = (1 + halves + crosses) * m.d_model + (2 if gated(m) else 1) * self._ff
        products += (1 + crosses) * self._heads + 2 * self._keys
        return self.width * stack.tokens * products + self._encoded(stack)

    def _input(self, stack: Stack) -> float:
        return self.width * stack.tokens * self.model.d_model


def _kernels(model: ModelConfig, mesh: MeshConfig, layers: float, width: int) -> float:
    """Copies of the layers' kernels: in the precision of the products where saved, or gathered a layer at a time."""
    gathered = layers * mesh.fsdp / model.n_layers * (width + FLOAT32) / FLOAT32 if mesh.fsdp > 1 else 0.0
    if model.remat != "none":
        return gathered
    copied = width < FLOAT32 or not model.scan  # layers that do not run in a scan are taken apart
    return gathered + (layers * width / FLOAT32 if copied else 0.0)


def _table(model: ModelConfig, vocab: int, mesh: MeshConfig, width: int) -> float:
    """A copy of the table that makes logits and, where it is sharded, its gradient before it is scattered."""
    return vocab * model.d_model / split_in(vocab, mesh.tensor) * (width + (FLOAT32 if mesh.fsdp > 1 else 0))


def _logits(model: ModelConfig, vocab: int, trainer: TrainerConfig) -> float:
    """Bytes of the float32 logits that a device holds at once, with what their gradient needs."""
    mesh = trainer.mesh
    length = trainer.target_tokens + (trainer.input_tokens if model.architecture == "decoder" else 0)
    rows = math.ceil(trainer.batch_rows / trainer.microbatches)
    here = math.ceil(rows / (mesh.data * mesh.fsdp))
    at_once = length // logit_chunks(rows, length, vocab)
    return LOGITS_COPIES * FLOAT32 * here * at_once * vocab / split_in(vocab, mesh.tensor)

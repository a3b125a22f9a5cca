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
from dataclasses import dataclass, replace

from flanscale.chips import GIB
from flanscale.schema import MeshConfig, ModelConfig, OptimizerConfig, TrainerConfig
from flanscale.sizing.architecture import TPU_LANES, code_width, coded
from flanscale.sizing.flops import FLOAT32, NORMS, Tensor, bytes_on_device, gated, parameters, split_in

RESERVE = 0.1  # of a device's memory: lost to fragments, to programs and to communication buffers
LOGITS_AT_ONCE = 2**28  # elements: 1 GiB of float32 on a device; above it the loss goes in chunks
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


REMATS = ("none", "dots", "attention", "full")  # from that which computes least again to that which keeps least


def least_remat(
    model: ModelConfig,
    vocab_size: int,
    optimizer: OptimizerConfig,
    trainer: TrainerConfig,
    attention: str,
    memory: float,
) -> ModelConfig:
    """The model with `model.remat=auto` made the first of `REMATS` that fits into so many bytes, or else full."""
    if model.remat != "auto":
        return model
    for remat in REMATS:
        chosen = replace(model, remat=remat)
        if footprint(chosen, vocab_size, optimizer, trainer, attention).fits(memory):
            break
    return chosen


def footprint(
    model: ModelConfig,
    vocab_size: int,
    optimizer: OptimizerConfig,
    trainer: TrainerConfig,
    attention: str = "xla",
) -> Footprint:
    """The memory of one training step; `model.remat=auto` keeps everything here.

    Args:
        vocab_size: what the tokenizer needs; the model's own, where it has one, goes before it.
        attention: who computes it (`architecture.attention_of`).
    """
    vocab, mesh, parts = model.vocab_size or vocab_size, trainer.mesh, trainer.microbatches
    tensors = list(parameters(model, vocab))
    state = [bytes_on_device(tensor, mesh, model) for tensor in tensors]
    layers = sum(size for size, tensor in zip(state, tensors, strict=True) if tensor.layers)
    held = sum(state)
    stacks = _stacks(model, trainer)
    act = _Activations(model, mesh, width := 4 if trainer.precision == "float32" else 2, attention)
    saved = sum(act.saved(stack) for stack in stacks) + sum(act.biases(stack) for stack in stacks)
    logits = _logits(model, vocab, trainer)
    kernels = _kernels(model, mesh, layers, width)
    table = _table(model, vocab, mesh, width)
    working = max(act.working(stack) for stack in stacks)
    gradients = held if parts == 1 else 2 * held  # of the part, and their sum
    moments = sum(_moments(tensor, optimizer, mesh, model) for tensor in tensors)
    rows = 4 * sum(stack.rows * stack.tokens * (5 if stack.decodes else 3) for stack in stacks) * parts
    sums = held if parts > 1 else 0.0
    at_the_logits = saved + kernels + logits + table + sums
    in_a_layer = saved + kernels + gradients + working
    in_the_update = gradients + max(state)
    return Footprint(
        parameters=held,
        optimizer=moments,
        gradients=gradients,
        kernels=kernels + table,
        activations=saved,
        logits=logits,
        working=working,
        rows=rows,
        total=held + moments + rows + max(at_the_logits, in_a_layer, in_the_update),
    )


def logit_chunks(rows: int, length: int, vocab: int) -> int:
    """How many equal stretches of positions the loss is computed in, one at a time, for a device's rows of a batch.

    A power of two that divides the length: the least with which no more than `LOGITS_AT_ONCE` logits are held, or the
    largest that there is. Positions are split because rows may lie on several devices.
    """
    chunks = 1
    while rows * (length // chunks) * vocab > LOGITS_AT_ONCE and length % (2 * chunks) == 0:
        chunks *= 2
    return chunks


def _moments(tensor: Tensor, optimizer: OptimizerConfig, mesh: MeshConfig, model: ModelConfig) -> float:
    """AdamW keeps two moments of every parameter; Muon one of a layer's kernels, and else AdamW's; Adafactor a row and
    a column of each large enough, else one.
    """
    whole = bytes_on_device(tensor, mesh, model)
    if optimizer.name == "muon":
        return whole if tensor.layers and len(tensor.shape) == 2 else 2 * whole
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


# Values of width D that a layer's norms and products read or, behind a norm, give.
_VECTORS = {"pre": 4, "parallel": 2, "parallel_two_norms": 3, "post": 4, "sandwich": 6}
_INNER_FUSED = {"relu": 1, "gelu": 2, "gelu_exact": 2, "geglu": 3, "swiglu": 3}  # of width F


@dataclass(frozen=True)
class _Activations:
    """Bytes of what layers hold; `width` is that of one value in the precision of the products."""

    model: ModelConfig
    mesh: MeshConfig
    width: int
    attention: str

    def saved(self, stack: Stack) -> float:
        """Over all layers, from the forward pass until the backward pass comes by."""
        kept = {"dots": self._products, "attention": self._attended, "full": self._input}
        return self.model.n_layers * stack.rows * kept.get(self.model.remat, self._everything)(stack)

    def biases(self, stack: Stack) -> float:
        """Masks and relative positions, added to the scores of all layers: [B, 1, T, S] or [B, H, T, S], float32.

        A fused kernel has a relative bias of [1, H, T, S], or a mask in bytes and bfloat16.
        """
        m, pairs = self.model, stack.rows * stack.tokens**2 * FLOAT32
        if self.attention != "xla":
            if m.architecture == "encoder_decoder":
                return 4 * FLOAT32 * stack.tokens**2 * m.n_heads / split_in(m.n_heads, self.mesh.tensor)
            return 0 if self.attention == "splash" or coded(m) else pairs
        if m.architecture == "decoder":
            groups = m.n_heads // m.kv_heads
            copies = 2 if m.window else 1
            return pairs * copies * (1 + (groups if groups > 1 else 0))
        own = 2 * pairs * m.n_heads / split_in(m.n_heads, self.mesh.tensor)  # and its gradient
        return own + stack.rows * stack.tokens * stack.seen * FLOAT32

    def working(self, stack: Stack) -> float:
        """While the backward pass is in a layer: what it computes again, and gradients of scores and of the halves."""
        again = 0.0 if self.model.remat in ("none", "auto") else stack.rows * self._fused(stack)
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
        """Pairs of one row: own and, in a T5 decoder, the encoder's; fused kernels hold none."""
        if self.attention != "xla":
            return 0.0
        return (
            stack.tokens
            * (stack.tokens + stack.seen)
            * self.model.n_heads
            / split_in(self.model.n_heads, self.mesh.tensor)
        )

    def _everything(self, stack: Stack) -> float:
        """Of one row of one layer of a scan: what norms, products, attention and nonlinearities are computed from."""
        m, wide, crosses = self.model, FLOAT32, self._crosses(stack)
        vectors = (4 + 2 * crosses if m.architecture == "encoder_decoder" else _VECTORS[m.block]) * m.d_model
        by_positions = 1 if self.attention != "xla" or m.attention_cap is None else 0  # the output once more
        attention = (1 + crosses) * self._heads * (2 * self._lanes + by_positions) + 2 * self._keys * self._lanes
        if m.qk_norm != "none":
            attention += self._heads + self._keys
        inner = (2 if gated(m) else 1) * self._ff
        scores = self._scores(stack) * (self.width if m.attention_cap is None else self.width + 3 * wide)
        values = self.width * (vectors + attention + inner) + self._masks(stack) + self._beside(stack)
        return stack.tokens * values + scores + self._encoded(stack)

    @property
    def _lanes(self) -> float:
        """How many times their size heads take: a TPU pads their width to 128."""
        return max(1.0, TPU_LANES / self.model.head_dim) if self.attention == "splash" else 1.0

    def _beside(self, stack: Stack) -> float:
        """Bytes of one token beside heads: the softmax's sums and, for cuDNN, columns that tell segments."""
        m, times = self.model, 1 + self._crosses(stack)
        heads = self._heads / m.head_dim
        if self.attention == "xla":
            return times * heads * FLOAT32
        columns = code_width(m, self.attention) * self.width
        return times * (heads * (FLOAT32 + 2 * columns) + 2 * self._keys / m.head_dim * columns)

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
        return (2 + self._crosses(stack)) * m.d_model + self._keys if m.dropout else 0.0

    def _encoded(self, stack: Stack) -> float:
        """Keys and values of what the encoder gave, for one row."""
        return stack.seen * 2 * self._keys * self.width

    def _products(self, stack: Stack) -> float:
        """Of one row of one layer: what `_attended` has, and outputs of the feed-forward that something follows."""
        m = self.model
        last = m.d_model if m.block in ("post", "sandwich") else 0
        return self._attended(stack) + self.width * stack.tokens * (last + (2 if gated(m) else 1) * self._ff)

    def _attended(self, stack: Stack) -> float:
        """Of one row of one layer: its input, and outputs of attention's products that something but a sum follows."""
        m, crosses = self.model, self._crosses(stack)
        followed = 0 if m.block in ("parallel", "parallel_two_norms") else 1
        products = (1 + followed + crosses) * m.d_model + (1 + crosses) * self._heads + 2 * self._keys
        fused = 0.0
        if self.attention != "xla":  # its output, and what is kept beside it
            per_head = self.width * (m.head_dim * self._lanes + code_width(m, self.attention)) + FLOAT32
            fused = (1 + crosses) * self._heads / m.head_dim * per_head
        return stack.tokens * (self.width * products + fused) + self._encoded(stack)

    def _input(self, stack: Stack) -> float:
        return self.width * stack.tokens * self.model.d_model


def _kernels(model: ModelConfig, mesh: MeshConfig, layers: float, width: int) -> float:
    """Copies of the layers' kernels: those gathered a layer at a time, or taken apart where there is no scan."""
    gathered = layers * mesh.fsdp / model.n_layers * (width + FLOAT32) / FLOAT32 if mesh.fsdp > 1 else 0.0
    return gathered + (0.0 if model.scan or model.remat not in ("none", "auto") else layers * width / FLOAT32)


def _table(model: ModelConfig, vocab: int, mesh: MeshConfig, width: int) -> float:
    """A copy of the table that makes logits, and its gradient, which is made with the loss."""
    return vocab * model.d_model / split_in(vocab, mesh.tensor) * (width + FLOAT32 / split_in(model.d_model, mesh.fsdp))


def _logits(model: ModelConfig, vocab: int, trainer: TrainerConfig) -> float:
    """Bytes of the float32 logits that a device holds at once, with what their gradient needs."""
    mesh = trainer.mesh
    length = trainer.target_tokens + (trainer.input_tokens if model.architecture == "decoder" else 0)
    rows = math.ceil(trainer.batch_rows / trainer.microbatches)
    here = math.ceil(rows / (mesh.data * mesh.fsdp))
    at_once = length // logit_chunks(math.ceil(rows / (mesh.data * mesh.fsdp * mesh.tensor)), length, vocab)
    return LOGITS_COPIES * FLOAT32 * here * at_once * vocab / split_in(vocab, mesh.tensor)

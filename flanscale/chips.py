"""What can an accelerator do: its memory, its operations a second at best, and how fast it moves bytes?

Standard library only: planning looks chips up without loading JAX, and training finds its own by `device_kind`. One
chip here is one JAX device. Prices and watts are the user's (`cluster.dollars_per_hour`, `cluster.watts`).

Sources. NVIDIA: the data sheet of each product (sparse FLOP/s halved; V100, T4: float16), memory as its driver reports
it; float32 products are TensorFloat-32 from Ampere on, as JAX has them by default (docs.jax.dev, "Matmul precision").
Links are NVLink where every pair in a host has it, else PCIe. Network: an adapter of 400 Gbit/s for each GPU of a DGX
H100 or B200, of 200 in a DGX A100 and in JUPITER's nodes of four GH200; for the others 100 Gbit/s for a host of eight,
as EC2's g5 and g6 have it.
TPU: cloud.google.com/tpu/docs/system-architecture and the page of each version; a device is a chip from v4 on, one of a
chip's two cores before, and one of its two chiplets in TPU7x. Links are all of a chip's, one way (v2, v3: Jouppi et al.
2020, doi:10.1145/3360307); a slice has no slower ones. JAX multiplies float32 in bfloat16 there by default.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
NETWORK = 100e9 / 8 / 8  # bytes a second of one of eight devices that share 100 Gbit/s
HOST = 8  # GPUs
SLICE = 9216  # chips: more than most slices have


@dataclass(frozen=True)
class Chip:
    """One accelerator, as JAX sees it, by its data sheet. Rates are a second, and those of links one way."""

    gib: float  # memory
    peak_flops: float  # dense bfloat16
    float32_flops: float  # of products of float32, as JAX makes them by default
    bandwidth: float  # bytes, of its memory
    link: float  # bytes, to the devices of its node
    kinds: tuple[str, ...]  # starts of its `device_kind`
    topology: str | None = None  # its compiler's name for it, and of a TPU the smallest slice
    node: int = HOST  # devices that links join
    network: float = NETWORK  # bytes, to other nodes
    has_bfloat16: bool = True  # else products of bfloat16 are made in float32

    @property
    def memory(self) -> float:
        """Bytes."""
        return self.gib * GIB


_A100 = ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe", "NVIDIA A100-PCIE-80GB")
_V100 = ("Tesla V100-SXM2-32GB", "Tesla V100-SXM3-32GB", "Tesla V100-PCIE-32GB")
_SXM = "h100"  # "NVIDIA H100 80GB HBM3", as its compiler is told

CHIPS = {
    "b200": Chip(179, 2250e12, 1125e12, 8e12, 900e9, ("NVIDIA B200",), network=50e9),
    "gh200": Chip(95.6, 989.4e12, 494.7e12, 4e12, 450e9, ("NVIDIA GH200",), node=4, network=25e9),
    "h200": Chip(140.4, 989.4e12, 494.7e12, 4.8e12, 450e9, ("NVIDIA H200",), network=50e9),
    "h100": Chip(79.6, 989.4e12, 494.7e12, 3.35e12, 450e9, ("NVIDIA H100",), _SXM, network=50e9),
    "h100_pcie": Chip(79.6, 756e12, 378e12, 2e12, 64e9, ("NVIDIA H100 PCIe",)),
    "h100_nvl": Chip(93.6, 835e12, 417.5e12, 3.9e12, 64e9, ("NVIDIA H100 NVL",)),
    "a100": Chip(80, 312e12, 156e12, 2.039e12, 300e9, _A100, network=25e9),
    "a100_40": Chip(40, 312e12, 156e12, 1.555e12, 300e9, ("NVIDIA A100",), network=25e9),
    "a40": Chip(45, 149.7e12, 74.8e12, 696e9, 32e9, ("NVIDIA A40",)),
    "a30": Chip(24, 165e12, 82e12, 933e9, 32e9, ("NVIDIA A30",)),
    "a10": Chip(22.5, 125e12, 62.5e12, 600e9, 32e9, ("NVIDIA A10",)),
    "a10g": Chip(22.5, 70e12, 35e12, 600e9, 32e9, ("NVIDIA A10G",)),
    "l40s": Chip(45, 362e12, 183e12, 864e9, 32e9, ("NVIDIA L40S",)),
    "l40": Chip(45, 181e12, 90.5e12, 864e9, 32e9, ("NVIDIA L40",)),
    "l4": Chip(22.5, 121e12, 60e12, 300e9, 32e9, ("NVIDIA L4",)),
    "rtx_4090": Chip(24, 165.2e12, 82.6e12, 1008e9, 32e9, ("NVIDIA GeForce RTX 4090",)),
    "rtx_3090": Chip(24, 71e12, 35.6e12, 936e9, 32e9, ("NVIDIA GeForce RTX 3090",)),
    "v100": Chip(16, 125e12, 15.7e12, 900e9, 150e9, ("Tesla V100",), has_bfloat16=False),
    "v100_32": Chip(32, 125e12, 15.7e12, 900e9, 150e9, _V100, has_bfloat16=False),
    "t4": Chip(15, 65e12, 8.1e12, 320e9, 16e9, ("Tesla T4",), has_bfloat16=False),
    "tpu_v2": Chip(8, 22.5e12, 22.5e12, 350e9, 124e9, ("TPU v2",), node=SLICE),
    "tpu_v3": Chip(16, 61.5e12, 61.5e12, 450e9, 164e9, ("TPU v3",), node=SLICE),
    "tpu_v4": Chip(32, 275e12, 275e12, 1200e9, 300e9, ("TPU v4",), "v4:2x2x1", node=SLICE),
    "tpu_v5e": Chip(16, 197e12, 197e12, 819e9, 200e9, ("TPU v5 lite", "TPU v5e"), "v5e:2x2", node=SLICE),
    "tpu_v5p": Chip(95, 459e12, 459e12, 2765e9, 600e9, ("TPU v5",), "v5p:2x2x1", node=SLICE),
    "tpu_v6e": Chip(32, 918e12, 918e12, 1638e9, 400e9, ("TPU v6 lite", "TPU v6e"), "v6e:2x2", node=SLICE),
    "tpu_v7x": Chip(96, 1153.5e12, 1153.5e12, 3690e9, 300e9, ("TPU7x",), node=SLICE),
}

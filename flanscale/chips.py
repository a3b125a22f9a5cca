"""What can an accelerator do: how much memory has it, and how many operations a second at best?

Standard library only: planning looks chips up without loading JAX, and training finds its own by `device_kind`. One
chip here is one JAX device. Prices and watts are the user's (`cluster.dollars_per_hour`, `cluster.watts`).

Sources. NVIDIA: the data sheet of each product (sparse FLOP/s halved; V100, T4: float16), memory as its driver reports
it. TPU: cloud.google.com/tpu/docs/system-architecture; a device is a chip from v4 on, one of a chip's two cores before,
and one of its two chiplets in TPU7x.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One accelerator, as JAX sees it."""

    gib: float  # memory
    peak_flops: float  # dense bfloat16
    kinds: tuple[str, ...]  # starts of its `device_kind`
    topology: str | None = None  # its compiler's name for it, and of a TPU the smallest slice

    @property
    def memory(self) -> float:
        """Bytes."""
        return self.gib * GIB


CHIPS = {
    "b200": Chip(179, 2250e12, ("NVIDIA B200",)),
    "gh200": Chip(95.6, 989.4e12, ("NVIDIA GH200",)),
    "h200": Chip(140.4, 989.4e12, ("NVIDIA H200",)),
    "h100": Chip(79.6, 989.4e12, ("NVIDIA H100",), "h100"),  # SXM: "NVIDIA H100 80GB HBM3"
    "h100_pcie": Chip(79.6, 756e12, ("NVIDIA H100 PCIe",)),
    "h100_nvl": Chip(93.6, 835e12, ("NVIDIA H100 NVL",)),
    "a100": Chip(80, 312e12, ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe", "NVIDIA A100-PCIE-80GB")),
    "a100_40": Chip(40, 312e12, ("NVIDIA A100",)),
    "a40": Chip(45, 149.7e12, ("NVIDIA A40",)),
    "a30": Chip(24, 165e12, ("NVIDIA A30",)),
    "a10": Chip(22.5, 125e12, ("NVIDIA A10",)),
    "a10g": Chip(22.5, 70e12, ("NVIDIA A10G",)),
    "l40s": Chip(45, 362e12, ("NVIDIA L40S",)),
    "l40": Chip(45, 181e12, ("NVIDIA L40",)),
    "l4": Chip(22.5, 121e12, ("NVIDIA L4",)),
    "rtx_4090": Chip(24, 165.2e12, ("NVIDIA GeForce RTX 4090",)),
    "rtx_3090": Chip(24, 71e12, ("NVIDIA GeForce RTX 3090",)),
    "v100": Chip(16, 125e12, ("Tesla V100",)),
    "v100_32": Chip(32, 125e12, ("Tesla V100-SXM2-32GB", "Tesla V100-SXM3-32GB", "Tesla V100-PCIE-32GB")),
    "t4": Chip(15, 65e12, ("Tesla T4",)),
    "tpu_v2": Chip(8, 22.5e12, ("TPU v2",)),
    "tpu_v3": Chip(16, 61.5e12, ("TPU v3",)),
    "tpu_v4": Chip(32, 275e12, ("TPU v4",), "v4:2x2x1"),
    "tpu_v5e": Chip(16, 197e12, ("TPU v5 lite", "TPU v5e"), "v5e:2x2"),
    "tpu_v5p": Chip(95, 459e12, ("TPU v5",), "v5p:2x2x1"),
    "tpu_v6e": Chip(32, 918e12, ("TPU v6 lite", "TPU v6e"), "v6e:2x2"),
    "tpu_v7x": Chip(96, 1153.5e12, ("TPU7x",)),
}

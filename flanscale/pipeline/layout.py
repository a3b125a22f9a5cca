"""How do examples become a batch? What a row holds, how many rows there are, and which of them are this process's."""

from __future__ import annotations

from dataclasses import dataclass

from flanscale.pipeline.packing import PAD, Packed, pack
from flanscale.pipeline.ragged import Ragged
from flanscale.schema import TrainerConfig


@dataclass(frozen=True)
class BatchLayout:
    """The batches of a cell, held-in ones too.

    Raises:
        ValueError: the rows do not divide among the hosts.
    """

    trainer: TrainerConfig
    """Of it `batch_rows`, `input_tokens` and `target_tokens`; see `flanscale.pipeline.objectives.packing`."""
    architecture: str
    eos_id: int
    bos_id: int | None = PAD
    """As in `pack`."""
    prefix: bool = False
    """As in `pack`."""
    host: tuple[int, int] = (0, 1)
    """(index, count) of this process among those that feed the same global batch."""

    def __post_init__(self) -> None:
        index, hosts = self.host
        if self.trainer.batch_rows % hosts or not 0 <= index < hosts:
            raise ValueError(
                f"trainer.batch_rows is {self.trainer.batch_rows} and this is host {index} of {hosts}: "
                f"give a multiple of {hosts} rows, hosts counted from 0"
            )

    @property
    def own_rows(self) -> slice:
        """Which rows of a global batch this process feeds."""
        index, hosts = self.host
        rows = self.trainer.batch_rows // hosts
        return slice(index * rows, (index + 1) * rows)

    def pack(self, inputs: Ragged, targets: Ragged) -> Packed:
        """Pairs of token ids in few rows."""
        return pack(
            inputs,
            targets,
            architecture=self.architecture,
            input_tokens=self.trainer.input_tokens,
            target_tokens=self.trainer.target_tokens,
            eos_id=self.eos_id,
            bos_id=self.bos_id,
            prefix=self.prefix,
        )

"""Training: from batches to parameters, through any number of interruptions."""

from flanscale.training.checkpoint import DamagedCheckpoint
from flanscale.training.compilation import enable_compilation_cache
from flanscale.training.footprint import OutOfMemory
from flanscale.training.loop import train
from flanscale.training.memory import keep_freed_memory
from flanscale.training.optimizers import build_optimizer
from flanscale.training.validation import held_in_rows

__all__ = [
    "DamagedCheckpoint",
    "OutOfMemory",
    "build_optimizer",
    "enable_compilation_cache",
    "held_in_rows",
    "keep_freed_memory",
    "train",
]

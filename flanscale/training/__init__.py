"""Training: from batches to parameters, through any number of interruptions."""

from flanscale.training.checkpoint import DamagedCheckpoint
from flanscale.training.compilation import enable_compilation_cache
from flanscale.training.loop import NonFiniteLoss, Preempted, train
from flanscale.training.memory import keep_freed_memory
from flanscale.training.optimizers import build_optimizer

__all__ = [
    "DamagedCheckpoint",
    "NonFiniteLoss",
    "Preempted",
    "build_optimizer",
    "enable_compilation_cache",
    "keep_freed_memory",
    "train",
]

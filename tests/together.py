"""Train on a mesh of several processes and print what each can say: the program of test_training_distributed.py.

python together.py FOLDER MESH STOP     (MESH as JSON; STOP is the step at which the last process is asked to stop)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tiny import ADAM, SortingBatches, examples, model, trainer

from flanscale.errors import Preempted
from flanscale.models import build_mesh
from flanscale.pipeline.layout import BatchLayout
from flanscale.pipeline.ragged import Ragged
from flanscale.schema import MeshConfig, TrainerConfig
from flanscale.training import held_in_rows, train
from flanscale.training.distributed import host_of, join


class Sliced(SortingBatches):
    """The rows of one process."""

    def __init__(self, config: TrainerConfig, host: tuple[int, int]) -> None:
        super().__init__("decoder", config)
        self.host = host

    def __next__(self) -> dict[str, np.ndarray]:
        index, count = self.host
        rows = len((batch := super().__next__())["decoder_positions"]) // count
        return {name: array[index * rows : (index + 1) * rows] for name, array in batch.items()}


def trained(folder: Path, mesh: MeshConfig, stop: int = 0) -> dict[str, Any]:
    """Which rows it read, what it logged, and what became of the parameters."""
    config = trainer(steps=6, batch_rows=8, log_every=3, checkpoint_every=100, validate_every=3, mesh=mesh)
    host = host_of(build_mesh(mesh), config.batch_rows)
    inputs, targets = (Ragged.of(texts) for texts in examples(np.random.default_rng(9), 50))
    rows: list[Any] = []
    polls = iter(range(1, 100))
    total: float | str
    try:
        params = train(
            model("decoder", n_layers=1, n_heads=2),
            ADAM,
            config,
            Sliced(config, host),
            seed=0,
            validation=held_in_rows(inputs, targets, BatchLayout(config, architecture="decoder", eos_id=1, host=host)),
            checkpoint_dir=folder / "checkpoints",
            log=lambda step, row: rows.append([step, row]),
            # only the last process is asked to stop
            should_stop=lambda: stop == next(polls) and jax.process_index() == jax.process_count() - 1,
        )
        params = jax.tree.map(lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)), params)
        total = float(sum(abs(x).sum() for x in jax.tree.leaves(params)))
        first = params["vocabulary"]["embedding"].ravel()[:8].tolist()
    except Preempted as error:
        total, first = str(error), None
    return {"host": list(host), "rows": rows, "total": total, "first": first}


if __name__ == "__main__":
    join()
    print("SAID", json.dumps(trained(Path(sys.argv[1]), MeshConfig(*json.loads(sys.argv[2])), int(sys.argv[3]))))

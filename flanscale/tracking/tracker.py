"""What is logged, under which names, and where: the contract between a run and everything that reads it.

`metrics.jsonl` in the run directory is the primary record: one JSON object a line with `step`, `attempt` and `time`,
flushed row by row, so that a kill -9 costs at most the row being written. W&B is its mirror (mirror.py).

Keys
    train/{loss,tokens,examples,learning_rate,grad_norm,tokens_per_second,mfu,data_wait_fraction,pad_fraction,
        loss_spikes}, validation/{loss,tokens} (of held-in examples)
    mixture/{tasks,tasks_requested,examples,max_epochs}, mixture/share/<group>
    eval/suite (its name), eval/<benchmark>/<setting>/{score,stderr,stderr_tasks,n,lower_bound,normalized,
        normalized_stderr,failures,cut,dropped,skipped,contaminated,prompts}
    eval/normalized_average, eval/normalized_average_{stderr,members,prompts}

Scores are in percent, errors in points. `stderr` is the sampling error of the items with the benchmark's tasks taken
as given; `stderr_tasks` also lets the tasks vary (clustered by task), and is not there where there is one. Both are
shared by all cells that answer the same items.

A benchmark of which tasks are missing is called by how many were scored: bbh_24_of_27. Another metric than its headline
is a benchmark of its own, as niv2_exact_match is. A suite that is asked later and asks otherwise under a name has
`<setting>@<suite>` and `normalized_average@<suite>`.

The rest are numbers of items: `failures` hold no answer and are wrong, `cut` counts answers that reached the most new
tokens, `dropped` items had fewer worked examples than asked for, `skipped` ones no room at all and count for nothing,
and `contaminated` ones may have been seen in training. `prompts` is the fingerprint of all that was asked: scores under
another are of another benchmark.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flanscale.run_directory import METRICS_FILE, read_rows
from flanscale.run_directory.files import cut_torn_line
from flanscale.schema import RunConfig
from flanscale.tracking.mirror import open_mirror
from flanscale.tracking.spoken import Spoken

log = logging.getLogger(__name__)

Log = Callable[[int, Mapping[str, Any]], None]
"""Takes a step and its row."""


class Tracker:
    """Appends one attempt's rows to `metrics.jsonl` and mirrors them to W&B.

    A step that an earlier attempt has logged is not logged again: a resumed run repeats it with the same values.
    """

    def __init__(self, run_dir: Path, config: RunConfig, *, run_id: str, attempt: int) -> None:
        self._attempt = attempt
        path = run_dir / METRICS_FILE
        if torn := cut_torn_line(path):
            log.warning("%s: dropped %d bytes of a row that an earlier attempt left unfinished", path, torn)
        self._seen = {(row["step"], key) for row in read_rows(run_dir) for key in row}
        self._file = path.open("a", encoding="utf-8")
        self._spoken = Spoken(config.trainer.steps)
        self._mirror = open_mirror(run_dir, path, config, run_id=run_id, attempt=attempt)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one row; values are numbers, strings or lists of strings. Non-finite numbers are kept as strings."""
        new = {key: value for key, value in values.items() if (step, key) not in self._seen}
        if not new:
            return
        row = {"step": step, "attempt": self._attempt, "time": round(time.time(), 3)}
        row |= {key: _jsonable(value) for key, value in new.items()}
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()
        self._spoken.say(step, new)
        if self._mirror is not None:
            self._mirror.log(new, step)

    def close(self, *, exit_code: int = 0) -> None:
        """Close the file, and W&B with the run's outcome."""
        self._file.close()
        if self._mirror is not None:
            self._mirror.close(exit_code)


@contextmanager
def tracked(folder: Path, config: RunConfig, *, run_id: str, attempt: int, first: bool = True) -> Iterator[Log]:
    """What rows are logged with, and in the end how the attempt went; of several processes only the first logs any."""
    if not first:
        yield lambda step, row: None
        return
    tracker = Tracker(folder, config, run_id=run_id, attempt=attempt)
    exit_code = 1
    try:
        yield tracker.log
        exit_code = 0
    finally:
        tracker.close(exit_code=exit_code)


def _jsonable(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

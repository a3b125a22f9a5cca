"""What is in a run directory, and how is it read and written? The contract between a run and everything about it.

    runs/<identity>-<name>/
        config.yaml             the resolved configuration
        state.json              how far it is, who answers for it, why it ended: `RunState`
        provenance.json         what each attempt ran on: `Attempt`
        metrics.jsonl           a row for every step that was logged, see `flanscale.tracking`
        mixture.json            the realised mixture; contamination.json: what the guard found in it
        log.txt                 the words of all attempts; log.<rank>.txt: of its other processes
        checkpoints/<step>/     what it goes on from
        evaluations/<suite>-…/  every item that was asked, and what came of it, see `evaluations`
        wandb/                  W&B's own files, and what has been sent

Every file is written whole or not at all, but for rows and logs, which grow by lines. A reader meets what is damaged
with one sentence that names the file, as `ConfigError`. Standard library and PyYAML only.
"""

from flanscale.run_directory.attempts import Attempt, Code, read_attempts, write_attempts
from flanscale.run_directory.config import read_config
from flanscale.run_directory.evaluations import (
    among_runs,
    evaluations,
    is_evaluation,
    name_among_runs,
    read_records,
    read_result,
    recorded,
    run_of_evaluation,
    runs_of,
)
from flanscale.run_directory.files import (
    CHECKPOINTS,
    CONFIG_FILE,
    CONTAMINATION_FILE,
    EVALUATIONS,
    LOG_FILE,
    METRICS_FILE,
    MIXTURE_FILE,
    PROVENANCE_FILE,
    STATE_FILE,
    WANDB,
    identity_of,
    is_run,
    read_each,
    run_directories,
    write_atomically,
)
from flanscale.run_directory.finding import find_run
from flanscale.run_directory.results import (
    best_step,
    checkpoint_steps,
    chosen_step,
    read_contamination,
    read_mixture,
    read_rows,
    write_contamination,
    write_mixture,
)
from flanscale.run_directory.state import FAILURE_CLASSES, STATES, Failure, RunState, read_state, write_state

__all__ = [
    "CHECKPOINTS",
    "CONFIG_FILE",
    "CONTAMINATION_FILE",
    "EVALUATIONS",
    "FAILURE_CLASSES",
    "LOG_FILE",
    "METRICS_FILE",
    "MIXTURE_FILE",
    "PROVENANCE_FILE",
    "STATES",
    "STATE_FILE",
    "WANDB",
    "Attempt",
    "Code",
    "Failure",
    "RunState",
    "among_runs",
    "best_step",
    "checkpoint_steps",
    "chosen_step",
    "evaluations",
    "find_run",
    "identity_of",
    "is_evaluation",
    "is_run",
    "name_among_runs",
    "read_attempts",
    "read_config",
    "read_contamination",
    "read_each",
    "read_mixture",
    "read_records",
    "read_result",
    "read_rows",
    "read_state",
    "recorded",
    "run_directories",
    "run_of_evaluation",
    "runs_of",
    "write_atomically",
    "write_attempts",
    "write_contamination",
    "write_mixture",
    "write_state",
]

"""What does W&B still lack? Sends the rows of run directories later, each step once, however often it is called."""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flanscale.errors import ConfigError
from flanscale.orchestration.planning.finding import find
from flanscale.orchestration.running.liveness import KnownJobs, look
from flanscale.run_directory import (
    METRICS_FILE,
    identity_of,
    is_run,
    read_config,
    read_rows,
    run_directories,
)
from flanscale.schema import PathsConfig
from flanscale.tracking import mirror, wandb_run

TRIES = 3
AT_ONCE = 4
LONGEST_TRY_SECONDS = wandb_run.CONNECT_SECONDS + wandb_run.FINISH_SECONDS + 20.0
FIRST_BACKOFF_SECONDS = 2.0
DEFAULT_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
LOGIN_VARIABLES = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


@dataclass(frozen=True)
class Parcel:
    """What a W&B project lacks of one run."""

    run_dir: Path
    where: str
    described: dict[str, Any]
    steps: wandb_run.Steps
    finished: bool

    @property
    def size(self) -> int:
        """Steps to send."""
        return len(self.steps.ready(finished=self.finished))

    @property
    def complete(self) -> bool:
        """Whether W&B has all that there is: the end of a finished run is news of its own."""
        return not self.size and not (self.finished and math.isfinite(self.steps.next))


def runs_of(name: str | None, paths: PathsConfig) -> list[Path]:
    """The run directories of a launched study or of one run; without a name, all of them.

    Raises:
        ConfigError: nothing is called so.
    """
    if name is None:
        return run_directories(Path(paths.runs))
    (target,) = find([name], paths)
    return [directory for directory in map(target.ledger.directory, target.entries) if is_run(directory)]


def parcel(run_dir: Path, project: str | None, known_jobs: KnownJobs) -> Parcel | None:
    """What W&B lacks of a run; None while the run is going on and sends by itself.

    Args:
        run_dir: the run directory.
        project: `[team/]project` to send to; by default that of the run's configuration.
        known_jobs: see `liveness.look`.

    Raises:
        ConfigError: the run's files cannot be read.
    """
    view = look(run_dir, known_jobs)
    if view.alive and view.state.state == "running":
        return None
    config = read_config(run_dir)
    if project is not None:
        entity, _, config["tracker"]["project"] = project.rpartition("/")
        config["tracker"]["entity"] = entity or config["tracker"]["entity"]
    where = wandb_run.target(config["tracker"]["project"], config["tracker"]["entity"])
    steps = wandb_run.Steps(wandb_run.first_unsent_step(run_dir, where))
    steps.take(read_rows(run_dir) if math.isfinite(steps.next) else ())
    described = wandb_run.described_run(run_dir, config, identity_of(run_dir))
    return Parcel(run_dir, where, described, steps, finished=view.state.state == "finished")


def send(parcels: Sequence[Parcel], told: Callable[[Parcel], None]) -> None:
    """Send what is lacking, a few runs at once; `told` hears of each one that has arrived.

    Raises:
        ConfigError: W&B cannot be reached or refuses; what has arrived stays noted, and no further run is tried.
    """
    failed: list[ConfigError] = []

    def one(lacking: Parcel) -> Parcel | None:
        try:
            return _send(lacking, failed) if not failed else None
        except ConfigError as error:
            failed.append(error)
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for sent in pool.map(one, parcels):
            if sent is not None:
                told(sent)
    if failed:
        raise failed[0]


def _send(lacking: Parcel, stop: Sequence[object]) -> Parcel:
    for number in range(1, TRIES + 1):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as words:
            metrics = lacking.run_dir / METRICS_FILE
            sender = mirror.start_sender(lacking.run_dir, metrics, lacking.described, Path(folder), words)
            mirror.send_line(sender, "0" if lacking.finished else "1")
            try:
                sender.communicate(timeout=LONGEST_TRY_SECONDS)
            except subprocess.TimeoutExpired:
                mirror.kill(sender)
            words.seek(0)
            last = (words.read().decode(errors="replace").strip().splitlines() or ["no answer"])[-1]
        if sender.returncode == 0:
            return lacking
        if sender.returncode == mirror.LASTING or number == TRIES or stop:
            break
        time.sleep(FIRST_BACKOFF_SECONDS * 2 ** (number - 1))
    later = "" if sender.returncode == mirror.LASTING else "; the same command goes on later"
    raise ConfigError(f"W&B, at {lacking.run_dir.name}: {last}{later}")


def login() -> str | None:
    """Where W&B's login comes from; None where there is none. Reads no key."""
    for name in LOGIN_VARIABLES:
        if os.environ.get(name):
            return name
    server = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
    files = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for path in (Path(name).expanduser() for name in files):
        try:
            known = netrc(path).hosts if path.is_file() else {}
        except (NetrcParseError, OSError):
            continue  # W&B itself says so when it is asked for the login
        if {server} & known.keys() if server else set(DEFAULT_HOSTS) & known.keys():
            return str(path)
    return None

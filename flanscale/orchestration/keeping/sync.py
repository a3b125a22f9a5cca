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

import yaml

from flanscale.config.compose import CONFIG_FILE
from flanscale.errors import ConfigError, one_line
from flanscale.orchestration.planning.finding import find_run
from flanscale.orchestration.planning.ledger import launched_studies, read_ledger
from flanscale.orchestration.running.liveness import KnownJobs, look
from flanscale.tracking import mirror, wandb_run
from flanscale.tracking.tracker import METRICS_FILE, read_metrics

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


def runs_of(name: str | None, runs: Path, studies: Path) -> list[Path]:
    """The run directories of a launched study or of one run; without a name, all of them.

    Raises:
        ConfigError: nothing is called so.
    """
    if name is None:
        return sorted(path.parent for path in runs.glob(f"*/{CONFIG_FILE}"))
    indexes = {path.stem: path for path in launched_studies(studies)}
    index = Path(name) if name.endswith(".json") else indexes.get(name)
    if index is None:
        return [find_run(name, runs, studies)]
    ledger = read_ledger(index)
    directories = [ledger.directory(entry) for entry in ledger.entries]
    return [directory for directory in directories if (directory / CONFIG_FILE).is_file()]


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
    config = _read_config(run_dir / CONFIG_FILE)
    if project is not None:
        entity, _, config["tracker"]["project"] = project.rpartition("/")
        config["tracker"]["entity"] = entity or config["tracker"]["entity"]
    where = wandb_run.target(config["tracker"]["project"], config["tracker"]["entity"])
    steps = wandb_run.Steps(wandb_run.first_unsent_step(run_dir, where))
    try:
        steps.take(read_metrics(run_dir / METRICS_FILE) if math.isfinite(steps.next) else ())
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{run_dir / METRICS_FILE} cannot be read ({error})") from error
    described = wandb_run.described_run(run_dir, config, run_dir.name.split("-", 1)[0])
    return Parcel(run_dir, where, described, steps, finished=view.state.state == "finished")


def _read_config(path: Path) -> dict[str, Any]:
    """A run's configuration as plain values, unchecked: whatever version wrote it, and in a tenth of the time."""
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not {"tracker", "trainer"} <= config.keys():
            raise ValueError("not a run's configuration")
        return dict(config)
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read ({one_line(error)})") from error


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
            mirror.tell(sender, "0" if lacking.finished else "1")
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

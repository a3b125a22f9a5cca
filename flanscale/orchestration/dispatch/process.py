"""How does a cell become a process of this machine? One in a session of its own, which outlives its launcher.

What is typed at the launcher's terminal does not reach it: the launcher asks it to leave.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from flanscale.orchestration.dispatch.launcher import fresh_folder, outside_slurm
from flanscale.orchestration.dispatch.snapshot import Snapshot
from flanscale.orchestration.running import child, forkserver
from flanscale.orchestration.running.liveness import Process, process_alive, process_of
from flanscale.orchestration.running.logs import JOBS_FOLDER, WORDS_FILE
from flanscale.run_directory import name_among_runs, runs_of
from flanscale.schema import ClusterConfig


@dataclass(frozen=True)
class CellProcess:
    """A cell's process, and the folder that keeps what it prints before it has its own log."""

    process: Process
    folder: Path

    def done(self) -> bool:
        """Whether it has ended."""
        return not process_alive(self.process.pid, self.process.started)

    def stop(self) -> None:
        """Ask it to leave after a checkpoint."""
        if not self.done():
            os.kill(self.process.pid, signal.SIGTERM)

    def words(self) -> str:
        """The last line that it printed before it had its own log; empty where there is none."""
        lines = (self.folder / WORDS_FILE).read_text(errors="replace").splitlines()
        return next(filter(None, reversed(lines)), "")

    def forget(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Starter:
    """Starts cells on this machine, from a copy of the sources or from the installed ones.

    Those of one environment share what they import, see `forkserver`.
    """

    runner: str
    """See `job.start`."""
    snapshot: Snapshot | None = None
    """The copy."""
    _servers: dict[frozenset[tuple[str, str]], subprocess.Popen[bytes]] = field(default_factory=dict)

    def __call__(self, run_dir: Path, cluster: ClusterConfig) -> CellProcess:
        """Start one cell.

        Args:
            run_dir: with its configuration.
            cluster: its environment, its GPUs (the first ones; a cell that asks for none sees none) and its time limit.
        """
        if self.snapshot:
            self.snapshot.used_by([run_dir.name])
        folder = fresh_folder(runs_of(run_dir) / JOBS_FOLDER, name_among_runs(run_dir))
        arguments, environment = child.arguments(run_dir, cluster, self.runner), self._environment(cluster)
        with (folder / WORDS_FILE).open("wb") as words:
            pid = self._forked(forkserver.Call(arguments, words.name), environment)
            if pid is None:  # the cell will tell what keeps it from being started
                pid = subprocess.Popen(
                    child.command(arguments),
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    start_new_session=True,
                ).pid
        return CellProcess(process_of(pid), folder)

    def __enter__(self) -> Starter:
        return self

    def __exit__(self, *_: object) -> None:
        """Keep nothing ready any more; cells run on."""
        for server in self._servers.values():
            server.communicate()
        self._servers.clear()

    def _environment(self, cluster: ClusterConfig) -> dict[str, str]:
        environment = outside_slurm(os.environ) | cluster.environment
        if self.snapshot:
            environment |= self.snapshot.environment(environment)
        return environment | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(cluster.gpus)))}

    def _forked(self, call: forkserver.Call, environment: dict[str, str]) -> int | None:
        """The process id; None where the server ends before it has told it. A cell that is started twice runs once."""
        if platform.system() == "Darwin":  # whose own libraries do not bear to be copied
            return None
        server = self._server(environment)
        assert server.stdin
        assert server.stdout
        with suppress(BrokenPipeError):
            server.stdin.write(forkserver.line(call))
            server.stdin.flush()
        answer = server.stdout.readline()
        return int(answer) if answer else None

    def _server(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        key = frozenset(environment.items())
        if key not in self._servers or self._servers[key].poll() is not None:
            self._servers[key] = subprocess.Popen(
                forkserver.command(self.runner),
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self._servers[key]

"""How does Hydra launch a study? A sweeper that plans it and a launcher that dispatches it, both flanscale's own.

Hydra imports this module whenever it starts, so that everything heavy is imported only when a multirun begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

NAME = "hydra_plugins.flanscale"


class FlanscaleLauncher(Launcher):
    """Runs cells through flanscale's queue or Slurm: nothing is run twice, and Slurm is not waited for."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """A cell is composed from its overrides alone; nothing of Hydra's context travels."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch what another sweeper has planned, one list of overrides a cell."""
        from flanscale.orchestration.dispatch.multirun import launch_planned, plan_batch

        launch_planned(lambda: plan_batch(job_overrides))
        done = []
        for overrides in job_overrides:
            result = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            result.return_value = None
            done.append(result)
        return done


class FlanscaleSweeper(Sweeper):
    """Plans a study (`+sweep=NAME`, or the sweeps on the command line) exactly as `flanscale launch` does."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """The plan comes from the arguments alone, and flanscale launches it."""
        self.launcher_class = config.hydra.launcher._target_

    def sweep(self, arguments: list[str]) -> Any:
        """Plan and launch."""
        from flanscale.errors import ConfigError
        from flanscale.orchestration.dispatch.multirun import launch_planned, plan_arguments
        from flanscale.orchestration.planning.plan import Plan

        def make() -> Plan:
            if self.launcher_class != f"{NAME}.FlanscaleLauncher":
                raise ConfigError("hydra/sweeper=flanscale needs hydra/launcher=flanscale; for Slurm: cluster=slurm")
            return plan_arguments(arguments)

        launch_planned(make)


for group in ("launcher", "sweeper"):
    target = f"{NAME}.Flanscale{group.capitalize()}"
    ConfigStore.instance().store(
        group=f"hydra/{group}", name="flanscale", node={"_target_": target}, provider="flanscale"
    )

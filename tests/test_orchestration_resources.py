"""What a cell asks for: the values of the cluster or of its model, refused where they do not fit together."""

from __future__ import annotations

from typing import Any

import pytest

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.resources import resources_of, rounds
from flanscale.orchestration.running.sharing import environment_of
from flanscale.schema import ClusterConfig, RunConfig


def cell(*overrides: str, **cluster: Any) -> RunConfig:
    config = Composer().compose(["mixture.count=9", *overrides])
    for key, value in cluster.items():
        setattr(config.cluster, key, value)
    return config


def test_a_model_has_its_own_resources_and_the_others_keep_the_clusters() -> None:
    by_model = {"t5_xl": {"gpus": 4, "memory_gb": 200, "sbatch": {"qos": "long"}}, "t5-small": {"timeout_minutes": 5}}
    xl = resources_of(cell("cluster=slurm", "model=t5_xl", "trainer.mesh.data=4", by_model=by_model))
    small = resources_of(cell("cluster=slurm", "model=t5_small", by_model=by_model))
    base = resources_of(cell("cluster=slurm", "model=t5_base", by_model=by_model))
    assert (xl.gpus, xl.memory_gb, xl.timeout_minutes, xl.sbatch) == (4, 200, 720, {"qos": "long"})
    assert (small.gpus, small.memory_gb, small.timeout_minutes) == (1, None, 5)
    assert base == resources_of(cell("cluster=slurm", "model=t5_base"))
    assert xl.by_model == small.by_model == {}


def test_threads_follow_the_cores_of_a_model() -> None:
    changed = resources_of(cell(by_model={"micro": {"cpus": 2}}))
    assert changed.cpus == 2
    assert changed.environment["OMP_NUM_THREADS"] == "2"
    told = resources_of(cell(by_model={"micro": {"cpus": 2, "environment": {"OMP_NUM_THREADS": "7"}}}))
    assert (told.environment["OMP_NUM_THREADS"], told.environment["NPROC"]) == ("7", "2")


def test_a_job_with_gpus_fails_without_them_unless_another_platform_is_named() -> None:
    assert resources_of(cell("cluster=slurm")).environment["JAX_PLATFORMS"] == "cuda"
    rocm = resources_of(cell("cluster=slurm", "cluster.environment.JAX_PLATFORMS=rocm"))
    assert rocm.environment["JAX_PLATFORMS"] == "rocm"
    assert "JAX_PLATFORMS" not in resources_of(cell("cluster=slurm", "cluster.gpus=0")).environment


@pytest.mark.parametrize(
    ("by_model", "message"),
    [
        ({"t5_xll": {"gpus": 4}}, r"cluster.by_model.t5_xll: no such model; did you mean t5_x"),
        ({"micro": {"gpu": 4}}, r"cluster.by_model.micro.gpu: not a resource of a cell; did you mean gpus"),
        ({"micro": {"name": "local"}}, r"cluster.by_model.micro.name: not a resource"),
        ({"micro": {"gpus": "many"}}, r"cluster.by_model.micro.gpus=many: .*Integer"),
        ({"micro": {"cpus": 0}}, r"cluster.by_model.micro.cpus=0: must be at least 1"),
        ({"micro": 4}, r"cluster.by_model.micro: expected keys of cluster with their values, got 4"),
    ],
)
def test_a_mistake_in_by_model_names_its_key(by_model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resources_of(cell("cluster=slurm", by_model=by_model))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["cluster=slurm", "cluster.gpus=4"], "= 1 devices, and the job .* = 1 × 4 = 4: set trainer.mesh.data=4"),
        (
            ["cluster=slurm", "cluster.nodes=2", "trainer.mesh.tensor=4", "trainer.mesh.data=2"],
            "= 8 devices, and the job .* = 2 × 1 = 2: set cluster.gpus=4",
        ),
        (
            ["cluster=slurm", "cluster.gpus=4", "cluster.tasks_per_node=3", "trainer.mesh.data=4"],
            "share its GPUs equally; set cluster.tasks_per_node to 4, one of its divisors, or 1",
        ),
        (["cluster.nodes=2"], "cluster=local runs a cell as one process"),
    ],
)
def test_processes_gpus_and_mesh_must_fit_together(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resources_of(cell(*overrides))


def test_what_fits_together_passes() -> None:
    for fitting in (
        ["cluster.gpus=4", "trainer.mesh.data=2", "trainer.mesh.tensor=2"],
        ["cluster.gpus=4", "cluster.nodes=2", "cluster.tasks_per_node=4", "trainer.mesh.fsdp=8"],
        ["cluster.gpus=0", "cluster.nodes=2", "cluster.tasks_per_node=2", "trainer.mesh.data=4"],
    ):
        assert isinstance(resources_of(cell("cluster=slurm", *fitting)), ClusterConfig)


def test_cells_side_by_side_share_cores_and_a_gpus_memory() -> None:
    many = ("cluster.cells_per_job=8", "cluster.cells_at_once=4")
    cores = resources_of(cell("cluster=slurm_cpu", "cluster.cpus=8", *many))
    assert {environment_of(cores)[name] for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {"2"}
    one = resources_of(cell("cluster=slurm", *many))
    assert environment_of(one)["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.230"
    each = resources_of(cell("cluster=slurm", "cluster.gpus=4", *many))
    assert environment_of(each)["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.92"
    two_each = resources_of(cell("cluster=slurm", "cluster.gpus=8", "trainer.mesh.data=2", *many))
    assert (two_each.gpus, rounds(two_each, 8), rounds(resources_of(cell("cluster=slurm")), 1)) == (8, 2, 1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("cluster=local", "cluster.cells_per_job=2"), r"cluster=local has no jobs; cluster.parallelism=N runs N"),
        (
            ("cluster=slurm", "cluster.cells_at_once=2"),
            r"more than the cells of a job; set cluster.cells_per_job=2 too",
        ),
        (
            ("cluster=slurm", "cluster.cells_per_job=2", "cluster.nodes=2", "trainer.mesh.data=2"),
            r"cluster.cells_per_job=2: its cells are one process each, and cluster.nodes=2",
        ),
        (
            ("cluster=slurm_cpu", "cluster.cpus=2", "cluster.cells_per_job=4", "cluster.cells_at_once=4"),
            r"cluster.cells_at_once=4: more than cluster.cpus=2",
        ),
        (
            ("cluster=slurm", "cluster.gpus=2", "cluster.cells_per_job=3", "cluster.cells_at_once=3"),
            r"cluster.gpus=2 cannot be shared equally",
        ),
        (
            ("cluster=slurm", "cluster.gpus=4", "cluster.cells_per_job=2", "cluster.cells_at_once=2"),
            r"trainer.mesh has 1 devices, and each of cluster.cells_at_once=2 cells on cluster.gpus=4 has 2",
        ),
    ],
)
def test_cells_that_cannot_share_a_job_as_asked_are_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resources_of(cell(*overrides))

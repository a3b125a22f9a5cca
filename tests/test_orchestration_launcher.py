"""Executors are told what the cluster configuration says, and nothing that this process happened to inherit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch.launcher import _reason, outside_slurm, slurm_parameters
from flanscale.orchestration.dispatch.local import slots
from flanscale.orchestration.running import slurm
from flanscale.schema import ClusterConfig


def test_slurm_is_told_every_knob_of_the_cluster() -> None:
    cluster = ClusterConfig(
        name="slurm",
        parallelism=3,
        cpus=4,
        gpus=2,
        memory_gb=64,
        timeout_minutes=90,
        partition="long",
        account="lab",
        setup=["module load cuda"],
        sbatch={"qos": "high"},
        environment={"XLA_FLAGS": "--a --b"},
    )
    told = slurm_parameters(cluster, "study", 10)
    assert (told["cpus_per_task"], told["gpus_per_node"], told["mem_gb"], told["timeout_min"]) == (4, 2, 64, 90)
    assert (told["slurm_partition"], told["slurm_account"]) == ("long", "lab")
    assert told["slurm_array_parallelism"] == 3
    assert told["slurm_setup"] == ["export XLA_FLAGS='--a --b'", "module load cuda"]
    assert told["slurm_additional_parameters"] == {"qos": "high"}
    assert told["slurm_signal_delay_s"] == 120


def test_what_is_not_configured_is_left_to_the_cluster() -> None:
    told = slurm_parameters(ClusterConfig(name="slurm", timeout_minutes=4), "study", 10)
    assert not {"gpus_per_node", "mem_gb", "slurm_partition", "slurm_account"} & set(told)
    assert told["slurm_array_parallelism"] == 10
    assert told["slurm_signal_delay_s"] == 60  # never most of the time limit


@pytest.mark.parametrize(
    ("sbatch", "options"),
    [
        ({"mail-type": "END", "mail_user": "me"}, {"mail_type": "END", "mail_user": "me"}),
        ({"exclusive": True, "hold": False, "comment": None}, {"exclusive": True}),
        ({"requeue": True, "no-requeue": False}, {"requeue": True}),
        ({"exclude": ["n1", "n2"], "nice": 0}, {"exclude": "n1,n2", "nice": 0}),
        ({"gpus-per-node": "a100:2"}, {"gpus_per_node": "a100:2"}),
        ({"gpus_per_node": "a100"}, {"gpus_per_node": "a100:2"}),
        ({"gres": "shard:1", "mem-per-cpu": "2G"}, {"gres": "shard:1", "mem_per_cpu": "2G"}),
    ],
)
def test_further_options_have_one_spelling_and_flags_are_flags(
    sbatch: dict[str, object], options: dict[str, object]
) -> None:
    told = slurm_parameters(ClusterConfig(name="slurm", gpus=2, sbatch=sbatch), "study", 10)
    assert told["slurm_additional_parameters"] == options


@pytest.mark.parametrize(
    ("sbatch", "message"),
    [
        ({"cpus-per-task": 4}, r"cluster\.sbatch\.cpus-per-task=4: .* use cluster\.cpus"),
        ({"ntasks_per_node": 4}, r"use cluster\.tasks_per_node"),
        ({"time": 60}, r"use cluster\.timeout_minutes"),
        ({"part": "big"}, r"cluster\.sbatch\.part=big: short for partition; write the option in full"),
        ({"array": "0-3"}, r"cluster\.sbatch\.array=0-3: flanscale sets this option itself; leave it out"),
        ({"requeue": False}, r"cluster\.sbatch\.requeue=False: a preempted or lost cell goes on because"),
        ({"no-requeue": True}, r"its job is requeued"),
        ({"gpus-per-node": "a100:4"}, r"use cluster\.gpus \(now 2\) for how many"),
        ({"gpus-per-node": 2}, r"use cluster\.gpus \(now 2\) for how many"),
        ({"gres": "gpu:a100:2"}, r"use cluster\.gpus, and cluster\.sbatch\.gpus_per_node=TYPE"),
        ({"mem": 0}, r"cluster\.memory_gb=8 is set"),
        ({"mail-type": "END", "mail_type": "ALL"}, r"--mail-type is given twice"),
        ({"qos": {"a": 1}}, r"give text, a number, a list, or true for a flag"),
    ],
)
def test_an_option_that_flanscale_sets_itself_is_refused_with_the_knob_to_use(
    sbatch: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        slurm_parameters(ClusterConfig(name="slurm", gpus=2, memory_gb=8, sbatch=sbatch), "study", 10)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "sbatch: error: invalid partition specified: x\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            "invalid partition specified: x",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "Requested node configuration is not available",
        ),
        ("sbatch: unrecognized option '--foo'", "sbatch: unrecognized option '--foo'"),
    ],
)
def test_slurms_own_words_are_condensed_to_one_line(message: str, reason: str) -> None:
    assert _reason(message) == reason


def test_the_environment_of_a_job_has_nothing_of_the_job_that_submits_it() -> None:
    ours = {"SLURM_CONF": "/etc/slurm.conf", "PATH": "/bin", "NPROC": "1"}
    theirs = {"SLURM_CPU_BIND": "quiet", "SBATCH_ACCOUNT": "other", "SUBMITIT_EXECUTOR": "slurm", "PMI_RANK": "3"}
    assert outside_slurm(ours | theirs) == ours


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, None),  # somebody's salloc: not ours to requeue
        ({"SLURM_JOB_ID": "7", "SUBMITIT_EXECUTOR": "slurm"}, "7"),
        (
            {
                "SLURM_JOB_ID": "9",
                "SLURM_ARRAY_JOB_ID": "7",
                "SLURM_ARRAY_TASK_ID": "2",
                "SUBMITIT_EXECUTOR": "slurm",
            },
            "7_2",
        ),
    ],
)
def test_a_job_knows_its_own_id(environment: dict[str, str], job: str | None) -> None:
    assert slurm.current_job(environment) == job


@pytest.mark.parametrize(
    ("queue_says", "requeued"),
    [("RUNNING", True), ("COMPLETING", False), ("CANCELLED", False), ("", False)],
)
def test_only_a_job_that_still_runs_is_requeued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue_says: str, requeued: bool
) -> None:
    for name, script in {"squeue": f"echo {queue_says}", "scontrol": f"echo $@ > {tmp_path}/asked"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert slurm.requeue("7_2") is requeued
    assert (tmp_path / "asked").exists() is requeued


@pytest.mark.parametrize("stopped", ["squeue", "scontrol"])
def test_a_signal_that_ends_the_question_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    for name in ("squeue", "scontrol"):
        first = f"mkdir {tmp_path}/first 2>/dev/null && kill -TERM $$\n" if name == stopped else ""
        (tmp_path / name).write_text(f"#!/bin/sh\n{first}echo RUNNING\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert slurm.requeue("7_2")
    assert (tmp_path / "first").exists()


def test_without_slurm_every_answer_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not slurm.available()
    assert slurm.known_jobs() is None
    assert slurm.largest_array() == 1000


def test_as_many_cells_run_at_once_as_cores_allow_and_at_least_one() -> None:
    cores = len(os.sched_getaffinity(0))
    assert 1 <= slots(ClusterConfig(name="local")) <= cores
    assert slots(ClusterConfig(name="local", cpus=10_000)) == 1
    assert slots(ClusterConfig(name="local", parallelism=7)) == 7

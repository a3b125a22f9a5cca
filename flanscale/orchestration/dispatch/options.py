"""Which further options does sbatch get? Those of `cluster.sbatch`, in one spelling, beside what flanscale asks for."""

from __future__ import annotations

from typing import Any

from flanscale.errors import ConfigError
from flanscale.schema import ClusterConfig

INSTEAD = {  # options that a knob sets
    "account": "cluster.account",
    "cpus_per_task": "cluster.cpus",
    "gpus": "cluster.gpus",
    "gpus_per_task": "cluster.gpus",
    "nodes": "cluster.nodes",
    "ntasks": "cluster.nodes and cluster.tasks_per_node",
    "ntasks_per_node": "cluster.tasks_per_node",
    "partition": "cluster.partition",
    "time": "cluster.timeout_minutes",
}
MEMORY = ("mem", "mem_per_cpu", "mem_per_gpu")
OF_FLANSCALE = (  # how jobs are told apart, told to stop, and found again
    *("array", "dependency", "error", "input", "job_name", "kill_on_invalid_dep", "open_mode", "output"),
    *("parsable", "signal", "test_only", "wait", "wrap"),
)
GPUS = "gpus_per_node"
WHOLE = (*INSTEAD, *MEMORY, *OF_FLANSCALE, GPUS, "gres", "no_requeue", "requeue")


def further_options(cluster: ClusterConfig) -> dict[str, Any]:
    """The options of `cluster.sbatch` as submitit takes them: underscores, True for a flag, none that is switched off.

    Raises:
        ConfigError: one that is given twice, or that flanscale sets itself; the message names the knob to use.
    """
    options: dict[str, Any] = {}
    for key, value in cluster.sbatch.items():
        name, given = key.lstrip("-").replace("-", "_"), f"cluster.sbatch.{key}={value}"
        if name in options:
            raise ConfigError(f"{given}: --{name.replace('_', '-')} is given twice")
        options[name] = _value(name, value, given, cluster)
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _value(name: str, value: Any, given: str, cluster: ClusterConfig) -> Any:
    if name not in WHOLE and (meant := [whole for whole in WHOLE if whole.startswith(name)]):
        raise ConfigError(f"{given}: short for {' or '.join(meant).replace('_', '-')}; write the option in full")
    if name in INSTEAD:
        raise ConfigError(f"{given}: flanscale sets this option itself; use {INSTEAD[name]}")
    if name in OF_FLANSCALE:
        raise ConfigError(f"{given}: flanscale sets this option itself; leave it out")
    if (name, value) in (("requeue", False), ("no_requeue", True)):
        raise ConfigError(f"{given}: a preempted or lost cell goes on because its job is requeued; leave it out")
    if name in MEMORY and cluster.memory_gb is not None:
        raise ConfigError(f"{given}: cluster.memory_gb={cluster.memory_gb} is set; set one of them, the other to null")
    if name == "gres" and cluster.gpus and "gpu" in str(value):
        raise ConfigError(f"{given}: use cluster.gpus, and cluster.sbatch.gpus_per_node=TYPE for one type of GPU")
    if isinstance(value, dict):
        raise ConfigError(f"{given}: give text, a number, a list, or true for a flag")
    if name == GPUS and value is not None:
        return _typed_gpus(str(value), given, cluster)
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _typed_gpus(value: str, given: str, cluster: ClusterConfig) -> str:
    """A type of GPU, or a type and as many as `cluster.gpus` says, as `type:number`."""
    kind, _, number = value.partition(":")
    if not kind or kind.isdecimal() or not cluster.gpus or number not in ("", str(cluster.gpus)):
        raise ConfigError(f"{given}: use cluster.gpus (now {cluster.gpus}) for how many; only their type belongs here")
    return f"{kind}:{cluster.gpus}"

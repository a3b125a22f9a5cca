"""Can this cluster run the cell at all? Compares what is asked for with what its nodes have."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flanscale.errors import ConfigError, nearest
from flanscale.orchestration.planning.resources import rounds
from flanscale.orchestration.running import slurm
from flanscale.orchestration.running.slurm import Nodes
from flanscale.schema import ClusterConfig

MB_IN_GB = 1024
NO_ROOM = re.compile(r"SubmitJob|MaxJobCount|Resource temporarily unavailable")  # QOSMaxSubmitJobPerUserLimit and kin
LIMIT = re.compile(rf"QOS policy|{NO_ROOM.pattern}")


class NoRoom(ConfigError):
    """As many jobs are queued as Slurm allows: fewer may be taken, or later."""


def check_request(cluster: ClusterConfig, known: Sequence[Nodes]) -> None:
    """Raise `ConfigError` naming the number that is too large, when no node of the cluster has what is asked for."""
    if not known:
        return
    where, there = _partition(cluster, known)
    limits = [nodes.minutes for nodes in there]
    count = rounds(cluster, cluster.cells_per_job)
    if None not in limits and cluster.timeout_minutes * count > (limit := max(n or 0 for n in limits)):
        each = f" for each of {count} cells one after another" if count > 1 else ""
        given = f"cluster.timeout_minutes={cluster.timeout_minutes}{each}"
        raise ConfigError(f"{given}: {where} ends jobs after {limit} minutes")
    for key, asked, unit, most in (
        ("cpus", cluster.cpus, "cores", max(nodes.cpus for nodes in there)),
        ("gpus", cluster.gpus, "GPUs", max(nodes.gpus for nodes in there)),
        ("memory_gb", cluster.memory_gb or 0, "GB of memory", max(nodes.memory_mb for nodes in there) // MB_IN_GB),
    ):
        if asked > most:
            raise ConfigError(f"cluster.{key}={asked}: no node of {where} has more than {most} {unit}")
    fitting = sum(nodes.count for nodes in there if _has_all(nodes, cluster))
    if fitting == 0:
        asked_for = f"cluster.cpus={cluster.cpus}, cluster.gpus={cluster.gpus}, cluster.memory_gb={cluster.memory_gb}"
        raise ConfigError(f"{asked_for}: no node of {where} has all of these together")
    if cluster.nodes > fitting:
        raise ConfigError(f"cluster.nodes={cluster.nodes}: {where} has {fitting} with these resources")


def _partition(cluster: ClusterConfig, known: Sequence[Nodes]) -> tuple[str, list[Nodes]]:
    """The nodes that the job may go to, and how to call them."""
    names = sorted({nodes.partition for nodes in known})
    for name in (wanted := (cluster.partition or "").split(",") if cluster.partition else []):
        if name not in names:
            raise ConfigError(
                f"cluster.partition={name}: no such partition{nearest(name, names)}; there are {', '.join(names)}"
            )
    there = [nodes for nodes in known if (nodes.partition in wanted if wanted else nodes.default)]
    if not there:
        raise ConfigError(f"cluster.partition: this Slurm has no default one; give one of {', '.join(names)}")
    return f"partition {' or '.join(dict.fromkeys(nodes.partition for nodes in there))}", there


def _has_all(nodes: Nodes, cluster: ClusterConfig) -> bool:
    enough_memory = nodes.memory_mb >= (cluster.memory_gb or 0) * MB_IN_GB
    return nodes.cpus >= cluster.cpus and nodes.gpus >= cluster.gpus and enough_memory


def refusal(words: str, cluster: ClusterConfig) -> ConfigError:
    """What to tell the user when Slurm said these words to a submission."""
    if LIMIT.search(words):
        kind = NoRoom if NO_ROOM.search(words) else ConfigError
        return kind(
            f"Slurm refused: {words}; your limit of queued jobs may be reached: launch again when some have ended"
        )
    if "Invalid account" in words:
        mine = slurm.accounts()
        hint = f"; you may charge {', '.join(mine)}" if mine else ""
        return ConfigError(f"cluster.account={cluster.account}: Slurm refused: {words}{hint}")
    return ConfigError(f"Slurm refused: {words}")

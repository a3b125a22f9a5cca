"""Which devices does JAX see here? Asked of a process of its own, since nothing that plans or watches imports JAX."""

from __future__ import annotations

import json
import subprocess
import sys

ASK_SECONDS = 60.0
QUESTION = "import jax, json; print(json.dumps([f'{d.platform}:{d.id} {d.device_kind}' for d in jax.devices()]))"


class NoAnswer(Exception):
    """JAX says nothing; the message is one line."""


def devices_here(patience: float = ASK_SECONDS) -> list[str]:
    """The devices that a run started now would have, as `provenance.json` writes them.

    Raises:
        NoAnswer: JAX cannot be loaded, finds no device, or takes too long.
    """
    command = [sys.executable, "-c", QUESTION]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"JAX did not answer within {patience:.0f} s") from None
    if done.returncode:
        raise NoAnswer((done.stderr.strip().splitlines() or [f"JAX ended with code {done.returncode}"])[-1])
    return list(json.loads(done.stdout.splitlines()[-1]))

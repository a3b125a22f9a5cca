"""Which configuration has a run, as plain values?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from flanscale.run_directory.files import CONFIG_FILE, damaged_told


def read_config(run_dir: Path) -> dict[str, Any]:
    """The configuration as plain values, whatever version wrote it; `config.compose.load` checks and types it.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    path = run_dir / CONFIG_FILE
    with damaged_told(path):
        config = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not isinstance(config, dict) or not all(isinstance(config.get(name), dict) for name in ("model", "trainer")):
            raise ValueError("not the configuration of a run")
    return config

"""How does a run leave the house? The verb `flanscale export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flanscale.checks import ConfigError


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run's identity, the beginning of one, or its directory")],
    to: Annotated[Path, typer.Option(help="the new folder", show_default=False)],
    precision: Annotated[str, typer.Option(help="float32 (bit for bit), bfloat16 or float16")] = "float32",
) -> None:
    """Write a run as a folder that transformers and vLLM load: weights, configuration, tokenizer and model card."""
    from flanscale.orchestration.watching.finding import find_run
    from flanscale.schema import PathsConfig

    paths = PathsConfig()
    run_dir = find_run(run, Path(paths.runs), Path(paths.studies))
    if precision not in ("float32", "bfloat16", "float16"):
        raise ConfigError(f"--precision {precision}: must be float32, bfloat16 or float16")
    from flanscale.weights.export import export_run  # JAX comes in here

    folder = export_run(run_dir, to, precision=precision)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e6:,.1f} MB of {run_dir.name}; load it with transformers' from_pretrained('{folder}')")

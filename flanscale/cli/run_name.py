"""How is a run named on the command line? The argument RUN of every verb that is about one run."""

from __future__ import annotations

from typing import Annotated

import typer

from flanscale.cli import completion

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="a run's identity, the beginning of one, its directory, or part of its name",
        autocompletion=completion.runs,
    ),
]

"""Whose wordings does a study use? The project's own, or FLAN's from the user's copy."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from flanscale.errors import DataError
from flanscale.tasks.task import Example, Task
from flanscale.tasks.templates import procedural
from flanscale.tasks.templates.flan import FlanTemplates, flan_key
from flanscale.tasks.templates.flan_source import read_flan
from flanscale.tasks.templates.form import Form
from flanscale.tasks.templates.own import own_source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wordings:
    """All texts that examples are rendered with."""

    name: str
    fingerprint: str
    """Sixteen hexadecimal characters over every text."""
    flan: FlanTemplates | None = None
    fallbacks: Counter[str] = field(default_factory=Counter, compare=False)
    """Task → how many of its examples were rendered in own words for lack of a FLAN template that fits."""

    def fall_back(self, task: Task, example: Example, form: Form) -> None:
        """Count an example that FLAN has no template for; the first of a task is said."""
        self.fallbacks[task.name] += 1
        if self.fallbacks[task.name] == 1:
            log.warning(
                "task %s: FLAN has no %s template under %s for the fields of its examples; rendered in own words",
                task.name,
                "inverted" if form.inverted else "chain-of-thought" if form.cot else "direct",
                flan_key(task, example, form),
            )


def load_wordings(templates: str, flan: Path | None) -> Wordings:
    """The wordings called `own` or `flan`.

    Args:
        flan: templates.json.gz or templates.py of FLAN, or a folder (a clone's root too) that holds one of them.

    Raises:
        DataError: another name, no path for `flan`, or a file that is not FLAN's templates.
    """
    digest = hashlib.sha256(own_source() + repr(procedural.DOMAINS).encode())
    if templates == "own":
        return Wordings("own", digest.hexdigest()[:16])
    if templates != "flan":
        raise DataError(f"mixture.templates={templates}: no such wordings; they are own and flan")
    if flan is None:
        raise DataError(
            "mixture.templates=flan needs FLAN's templates: set data.flan to templates.json.gz or templates.py"
        )
    tables = read_flan(flan)
    digest.update(json.dumps(tables, sort_keys=True).encode())
    return Wordings("flan", digest.hexdigest()[:16], FlanTemplates.of(tables))

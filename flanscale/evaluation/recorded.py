"""What did another program's model score? A document of results like that of any model, from its recorded outputs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from flanscale.evaluation.answering import Answered
from flanscale.evaluation.outputs import score_outputs
from flanscale.evaluation.results import result_of
from flanscale.evaluation.suites import Suite
from flanscale.run_directory.evaluations import close_records, write_result
from flanscale.tasks.reading import safe_name

log = logging.getLogger(__name__)


def score_recorded(path: Path, suite: Suite, out: Path) -> dict[str, Any]:
    """The document, which is written with its records into a folder of the file's name.

    Raises:
        ConfigError: the suite's only line ranks options.
        DataError: the file is not there, malformed, or of other items.
    """
    (line,) = suite.lines
    scored = score_outputs(path, line)
    if scored.without:
        log.warning("%s: no output for %d of %d items", path, scored.without, len(line.asked.items))
    keys = {record.key for record in scored.records}
    items = tuple(item for item in line.asked.items if item.key in keys)
    kept = replace(line, asked=replace(line.asked, items=items))
    answered = [Answered(kept, scored.records)]
    folder = out / safe_name(path.stem) / f"{suite.name}-{suite.fingerprint[:8]}"
    result = result_of(suite, answered, None, {"weights": None, "source": str(path), "precision": None})
    close_records(folder, line.name, [record.line() for record in scored.records])
    write_result(folder, result)
    return result

"""What did another program's model score? A document of results like that of any model, from its recorded outputs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from flanscale.errors import ConfigError
from flanscale.evaluation.answering import Answered
from flanscale.evaluation.outputs import score_outputs
from flanscale.evaluation.results import result_of
from flanscale.evaluation.suites import Suite
from flanscale.run_directory.evaluations import close_records, read_result, write_result
from flanscale.tasks.reading import safe_name

log = logging.getLogger(__name__)


def score_recorded(path: Path, suite: Suite, out: Path) -> dict[str, Any]:
    """The document, which is written with its records into a folder of the file's name.

    Raises:
        ConfigError: there is not one line, it ranks options, or the folder holds another file's.
        DataError: the file is not there, malformed, or of other items.
    """
    if len(suite.lines) != 1:
        raise ConfigError(f"outputs are of one line of a suite, not of {len(suite.lines)}")
    (line,) = suite.lines
    scored = score_outputs(path, line)
    if scored.without:
        log.warning("%s: no output for %d of %d items", path, scored.without, len(line.asked.items))
    keys = {record.key for record in scored.records}
    items = tuple(item for item in line.asked.items if item.key in keys)
    kept = replace(line, asked=replace(line.asked, items=items))
    answered = [Answered(kept, scored.records)]
    folder = out / safe_name(path.stem) / f"{suite.name}-{suite.fingerprint[:8]}"
    source = str(path.absolute())
    if (before := read_result(folder)) is not None and before.get("source") != source:
        raise ConfigError(f"{folder} holds what was answered in {before.get('source')}: give another folder with --out")
    result = result_of(suite, answered, None, {"weights": None, "source": source, "precision": None})
    close_records(folder, line.name, [record.line() for record in scored.records])
    write_result(folder, result)
    return result

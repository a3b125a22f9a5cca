"""One evaluation, top to bottom: suite → ask → score. Of parameters that are at hand, whoever loaded them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from flanscale.errors import DataError
from flanscale.evaluation.answering import answers
from flanscale.evaluation.opening import suite_of
from flanscale.evaluation.results import result_of
from flanscale.inference.language_model import TrainedModel
from flanscale.inference.weights import fingerprint
from flanscale.run_directory.evaluations import evaluation_folder, read_result, write_result
from flanscale.schema import RunConfig

log = logging.getLogger(__name__)


def evaluate(
    config: RunConfig,
    model: TrainedModel,
    home: Path,
    *,
    source: str,
    learned: Collection[str] = (),
    contaminated: Mapping[str, Collection[str]] | None = None,
    writes: bool = True,
) -> dict[str, Any]:
    """The document of a suite's results; of an evaluation that is over, the one that is there.

    It is known by the fingerprint of the weights, the suite's, which speaks of every prompt, and the precision.

    Args:
        home: the run directory, or another folder, whose `evaluations/` holds records and results.
        source: where the parameters come from, in words.
        learned: names of the tasks that they learnt.
        contaminated: benchmark → keys of items that they may have seen.
        writes: whether this process is the one that keeps them.

    Raises:
        DataError: no line of the suite can be asked here.
        NonFiniteWeights: the parameters are not numbers.
        NonFiniteLogits: the model gave no token.
    """
    suite = suite_of(config, learned)
    if not suite.lines:
        raise DataError("; ".join(suite.faults))
    about = {"weights": fingerprint(model.engine.params), "source": source, "precision": model.engine.model.dtype}
    known = json.dumps([suite.fingerprint, about["weights"], about["precision"]])
    folder = evaluation_folder(home, suite.name, hashlib.sha256(known.encode()).hexdigest())
    if (result := read_result(folder)) is not None:
        log.info("%s: the results are there already", folder)
        return result
    answered = answers(suite, model, folder, writes=writes, contaminated=contaminated)
    result = result_of(suite, answered, model, about)
    if writes:
        write_result(folder, result)
    return result

"""On a real Slurm an evaluation is a job of its own, which begins when its cell has ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from little_study import open_workplace, wait_until

from flanscale.cli.main import app
from flanscale.orchestration.running import slurm
from flanscale.run_directory import evaluations, read_result, read_rows, read_state

ASKED = ["evaluation=procedural", "evaluation.items=1", "trainer.steps=4", "mixture.count=9", "seed=0"]
ON_SLURM = ["cluster=slurm", "cluster.gpus=0", "cluster.timeout_minutes=20", "cluster.evaluation={timeout_minutes: 10}"]


@pytest.mark.slurm
@pytest.mark.slow
def test_an_evaluation_is_a_job_that_waits_for_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not slurm.available() or slurm.known_jobs() is None:
        pytest.skip("no Slurm answers here")
    place = open_workplace(tmp_path, monkeypatch)

    def typed(*arguments: str) -> None:
        with pytest.raises(SystemExit) as ended:
            app([*arguments], standalone_mode=True)
        assert ended.value.code in (0, None)

    typed("launch", "little", "--no-wait", *ASKED, *ON_SLURM)
    (run,) = place.runs()
    (folder,) = evaluations(run)
    wait_until(lambda: read_state(folder).state in ("finished", "failed"), seconds=240)
    trained, asked = read_state(run), read_state(folder)
    assert (trained.state, asked.state) == ("finished", "finished")
    assert set(trained.job_ids).isdisjoint(asked.job_ids)
    assert len(asked.job_ids) == 1
    assert asked.updated > trained.updated
    result = read_result(folder)
    assert result
    assert [line["name"] for line in result["lines"]] == ["procedural/direct", "procedural/cot"]
    last = {key: value for row in read_rows(run) for key, value in row.items()}
    assert last["eval/normalized_average"] == result["average"]["score"]
    # Another suite for the run that has ended: one more job, and nothing is trained.
    typed("evaluate", "little", "--no-wait", "--suite", "procedural/direct", "evaluation.items=2")
    (other,) = set(evaluations(run)) - {folder}
    wait_until(lambda: read_result(other) is not None, seconds=240)
    assert read_state(run).attempt == trained.attempt

"""Meshes: the same training on one device and on eight."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from tiny import ADAM, SortingBatches, model, model_config, trainer

from flanscale.models import ShardingRules, build_mesh, parameter_shardings
from flanscale.schema import MeshConfig
from flanscale.sizing.architecture import check_heads
from flanscale.training import train

MESHES = {  # and the part of a layer's [16, 32] feed-forward kernel that one device holds
    "decoder": {(8, 1, 1): [1, 16, 32], (1, 8, 1): [1, 2, 32], (1, 1, 8): [1, 16, 4], (2, 2, 2): [1, 8, 16]},
    "encoder_decoder": {(1, 1, 8): [1, 16, 4], (2, 2, 2): [1, 8, 16]},
}

# Sizes that all meshes divide. Prints the losses of a few steps, then how a kernel and its moment are split.
PROGRAM = """
import json, sys, tempfile
from pathlib import Path
import jax
from tiny import SortingBatches, model, trainer
from written import greedy
from flanscale.inference.engine import Engine
from flanscale.inference.scoring import Continuations, score
from flanscale.schema import MeshConfig, OptimizerConfig
from flanscale.training import train

architecture, meshes = sys.argv[1], json.loads(sys.argv[2])
results = []
for shape in [(1, 1, 1), *meshes]:
    config = trainer(steps=6, batch_rows=16, log_every=2, mesh=MeshConfig(*shape))
    shared = {"n_kv_heads": 2} if architecture == "decoder" else {}
    tiny = model(architecture, n_layers=1, n_heads=8, head_dim=4, d_model=16, d_ff=32, **shared)
    rows = []
    params = train(
        tiny, OptimizerConfig(name="adamw", learning_rate=1e-2), config, SortingBatches(architecture, config), seed=0,
        checkpoint_dir=Path(tempfile.mkdtemp()), log=lambda step, row: rows.append(row["train/loss"]),
        should_stop=lambda: False,
    )
    layers = params["layers"] if architecture == "decoder" else params["decoder"]["layers"]
    kernel = layers["feed_forward"]["up"]
    answers = greedy(tiny, params, [[5, 3], [9, 4, 7]], max_new_tokens=4, batch_size=8, eos_id=1)
    shared = [[2 + n % 7 for n in range(size)] for size in (0, 260, 150)]
    long = [[*shared[n % 3 if n < 40 else 0], *range(2, 4 + n % 8), *[2 + n % 9] * (n * 3)] for n in range(80)]
    answers += greedy(tiny, params, long, max_new_tokens=4, batch_size=64, eos_id=1)
    asked = [Continuations([0, *range(2, 2 + n % 9), 3 + n % 5], [[4, 5], [6], [7, 8, 9]]) for n in range(40)]
    scored = {}
    for batch in score(Engine(tiny, params), asked):
        scored |= batch
    scores = [[float(x) for logprobs, _ in scored[n] for x in logprobs] for n in range(len(asked))]
    shard = kernel.addressable_shards[0].data.shape
    results.append({"losses": rows, "shard": shard, "answers": answers, "scores": scores})
print(json.dumps(results))
"""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", MESHES)
def test_every_mesh_of_eight_devices_trains_and_decodes_as_one_device_does(architecture: str) -> None:
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, architecture, json.dumps(list(MESHES[architecture]))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stderr[-3000:]
    one, *others = json.loads(output.stdout.splitlines()[-1])
    for mesh, result in zip(MESHES[architecture], others, strict=True):
        np.testing.assert_allclose(result["losses"], one["losses"], rtol=2e-5, err_msg=str(mesh))
        assert result["answers"] == one["answers"], mesh
        np.testing.assert_allclose(result["scores"], one["scores"], atol=2e-4)  # of weights that differ by rounding
        assert result["shard"] == MESHES[architecture][mesh], "really split"


def test_parameters_are_split_by_what_their_axes_mean() -> None:
    mesh = build_mesh(MeshConfig())
    shapes = jax.eval_shape(model("encoder_decoder", n_layers=1).init, jax.random.key(0))
    specs = jax.tree.map(lambda sharding: sharding.spec, parameter_shardings(mesh, shapes, kv_heads=2))
    block = specs["decoder"]["layers"]
    assert specs["vocabulary"] == {
        "embedding": PartitionSpec("tensor", "fsdp"),
        "head": PartitionSpec("fsdp", "tensor"),
    }
    assert block["cross_attention"]["query"] == block["feed_forward"]["gate"] == PartitionSpec(None, "fsdp", "tensor")
    assert block["attention"]["out"] == block["feed_forward"]["down"] == PartitionSpec(None, "tensor", "fsdp")
    assert block["attention_norm"]["scale"] == PartitionSpec(None, None)


def test_key_and_value_heads_that_the_mesh_does_not_divide_are_whole_on_every_device() -> None:
    mesh = AbstractMesh((1, 2, 4), ("data", "fsdp", "tensor"))
    tiny = model("decoder", n_heads=8, n_kv_heads=2, head_dim=4)
    shapes = jax.eval_shape(tiny.init, jax.random.key(0))
    attention = parameter_shardings(mesh, shapes, tiny.config.kv_heads)["layers"]["attention"]
    assert attention["query"].spec == PartitionSpec(None, "fsdp", "tensor")
    assert attention["key"].spec == attention["value"].spec == PartitionSpec(None, "fsdp", None)


def test_a_mesh_that_does_not_divide_the_heads_says_what_does() -> None:
    with pytest.raises(ValueError, match=r"tensor=4 does not divide model\.n_heads=6: give one of 1, 2, 3, 6"):
        check_heads(model_config("decoder", n_heads=6), tensor=4)


def test_two_logical_axes_on_one_mesh_axis_are_refused() -> None:
    with pytest.raises(ValueError, match="'tensor' twice"):
        ShardingRules(embed="tensor").spec(("embed", "heads"))
    with pytest.raises(ValueError, match="'fsdp' twice"):
        ShardingRules().spec(("batch", None, "embed"))


def test_a_mesh_larger_than_the_machine_says_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"2×1×4 and needs 8 devices, but this job has 1: lower trainer\.mesh"):
        build_mesh(MeshConfig(data=2, tensor=4))


def test_rows_that_do_not_come_out_even_on_the_mesh_are_refused(tmp_path: Path) -> None:
    config = trainer(batch_rows=6, mesh=MeshConfig(data=4))
    with pytest.raises(ValueError, match=r"trainer\.batch_rows is 6.*4 ways"):
        train(
            model("decoder"),
            ADAM,
            config,
            SortingBatches("decoder", config),
            seed=0,
            checkpoint_dir=tmp_path,
            log=lambda step, row: None,
            should_stop=lambda: False,
        )


def test_an_axis_that_does_not_come_out_even_stays_whole_and_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    from flanscale.models.sharding import divisible

    with caplog.at_level(logging.WARNING, "flanscale"):
        spec = divisible(PartitionSpec("tensor", "fsdp"), (100, 64), {"fsdp": 4, "tensor": 8}, "['embedding']")
    assert spec == PartitionSpec(None, "fsdp")
    assert "100 is not a multiple of 8" in caplog.text

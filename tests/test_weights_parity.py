"""The tiny models of every family compute what transformers computed on them (tests/golden/make_golden.py)."""

import json

import numpy as np
import pytest
from our_side import as_tensors, generated, loaded, outcome, relative
from tiny_families import FAMILIES, GOLDEN, golden_folder, sketch

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as kept:
        return dict(kept)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_loss_and_every_gradient_are_those_of_transformers(name, golden, tmp_path):
    model, params = loaded(name, golden_folder(name, tmp_path), scan=True)
    logits, loss, gradients = outcome(model, params, name)
    assert relative(logits, golden[f"{name}/logits"]) < TOLERANCE
    assert loss == pytest.approx(float(golden[f"{name}/loss"]), rel=TOLERANCE)
    ours = as_tensors(name, gradients)
    names = json.loads(str(golden[f"{name}/gradient_names"]))
    assert set(names) == set(ours)
    for key, theirs in zip(names, golden[f"{name}/gradients"], strict=True):
        assert relative(sketch(key, ours[key]), theirs) < TOLERANCE, key


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_generation_says_what_transformers_says(name, golden, tmp_path):
    model, params = loaded(name, golden_folder(name, tmp_path), scan=True)
    assert generated(model, params, name) == golden[f"{name}/generated"].tolist()

"""Nothing that looks like a secret is written down, and nothing else is touched."""

from __future__ import annotations

import pytest

from flanscale.tracking.masking import masked, masked_arguments, without_secrets


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cluster.environment.WANDB_API_KEY=abc123", "cluster.environment.WANDB_API_KEY=***"),
        ("{HF_TOKEN: abc123, PORT: 80}", "{HF_TOKEN: ***, PORT: 80}"),
        ("--password=abc123", "--password=***"),
        ("https://me:abc123@example.org/simple", "https://***@example.org/simple"),
        ("git clone https://abc123@example.org/x", "git clone https://***@example.org/x"),
        ("hf_" + "a" * 30, "***"),
        ("trainer.input_tokens=128", "trainer.input_tokens=128"),
        ("tokenizer=t5", "tokenizer=t5"),
        ("tokenizer.vocabulary=/data/t5.model", "tokenizer.vocabulary=/data/t5.model"),
        ("evaluation.direct_tokens=16", "evaluation.direct_tokens=16"),
        ("/home/me@work/x", "/home/me@work/x"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, kept: str) -> None:
    assert masked(text) == kept


def test_a_secret_that_follows_its_option_is_masked() -> None:
    assert masked_arguments(["x", "--api-key", "abc123", "--steps", "5"]) == ["x", "--api-key", "***", "--steps", "5"]
    assert masked_arguments(["login", "0123456789" * 4]) == ["login", "***"]


def test_a_configuration_keeps_its_shape() -> None:
    config = {"environment": {"HF_TOKEN": "abc", "OMP": "1"}, "trainer": {"input_tokens": 8}, "setup": ["A_SECRET=b"]}
    assert without_secrets(config) == {
        "environment": {"HF_TOKEN": "***", "OMP": "1"},
        "trainer": {"input_tokens": 8},
        "setup": ["A_SECRET=***"],
    }

"""What a vocabulary can write at all bounds what a model can score."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from flanscale.evaluation.ceiling import ceiling
from flanscale.evaluation.item import Item, Prompt
from flanscale.evaluation.metrics import exact
from flanscale.tasks.benchmark_files import tydiqa


def test_the_ceiling_is_the_share_of_items_with_an_answer_that_the_vocabulary_can_write() -> None:
    texts: dict[str, list[tuple[str, ...]]] = {
        "de": [("Bär", "Baer"), ("Bär",), ("Hund",), ()],
        "en": [("bear",), ("dog",)],
    }
    items = [
        Item(f"{language}/{at}", language, Prompt("", (), ""), references)
        for language, all in texts.items()
        for at, references in enumerate(all)
    ]
    found = ceiling(items, lambda text: text.replace("ä", "?"), exact)
    assert dict(found.by_subtask) == {"de": pytest.approx(200 / 3), "en": 100.0}
    assert found.share == pytest.approx((200 / 3 + 100) / 2)
    assert found.warning is None
    low = ceiling(items, lambda text: "" if "u" in text else text.replace("ä", "?"), exact)
    assert low.warning == "this vocabulary can write less than 50 % of the right answers of de 33.3 %"
    assert math.isnan(ceiling(items[3:4], lambda text: text, exact).share)


@pytest.mark.data
def test_t5_can_write_few_of_the_answers_of_tydiqa(shared_data: Path) -> None:
    """Its SentencePiece model gives text back in NFKC, which a metric must not count as wrong."""
    from sentencepiece import SentencePieceProcessor

    vocabulary = SentencePieceProcessor(str(shared_data / "tokenizer" / "t5.spiece.model"))
    passages = tydiqa(shared_data / "tydiqa", "dev")
    items = [Item(asked.id, asked.language, Prompt("", (), asked.question), asked.answers) for asked in passages]

    def as_nfkc(prediction: str, references: Sequence[str]) -> float:
        return exact(prediction, [unicodedata.normalize("NFKC", reference) for reference in references])

    found = ceiling(items, lambda text: vocabulary.decode(vocabulary.encode(text)), as_nfkc)
    low = {name: round(share, 1) for name, share in found.by_subtask.items() if share < 50}
    assert low == {"arabic": 13.5, "bengali": 1.8, "korean": 15.9, "russian": 27.3, "telugu": 35.1}

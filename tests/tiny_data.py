"""A folder of data as a real study reads it, with one task of each of two sources, a vocabulary and a few texts."""

from __future__ import annotations

import io
import json
from pathlib import Path

from niv2_folder import niv2_folder, niv2_record

from flanscale.tasks.catalog import catalogued

TEXT = "Copy it. in out other the a question answer step by task Input Output Definition example"


def tiny_data(folder: Path) -> Path:
    """What `data.root` names: cot/, niv2/, mmlu/, tokenizer/ and text/."""
    from sentencepiece import SentencePieceTrainer

    train, test = list(catalogued("niv2"))[:2]
    niv2_folder(folder / "niv2", {train: niv2_record(), test: niv2_record()}, train=[train], test=[test])
    (folder / "cot").mkdir()
    (folder / "cot" / "gsm8k_train.tsv").write_text("1 + 1?\t2\tOne and one is two.\n" * 20)
    for split, questions in (("dev", 5), ("val", 2), ("test", 2)):
        (folder / "mmlu" / split).mkdir(parents=True)
        rows = "".join(f"{number} + 1?,{number},{number + 1},none,all,B\n" for number in range(questions))
        (folder / "mmlu" / split / f"elementary_mathematics_{split}.csv").write_text(rows)
    (folder / "text").mkdir()
    (folder / "text" / "fox.txt").write_text("The quick brown fox jumps over the lazy dog. " * 2000)
    (folder / "tokenizer").mkdir()
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 20),
        model_writer=model,
        vocab_size=160,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=[f"<extra_id_{n}>" for n in reversed(range(100))],
        minloglevel=2,
    )
    (folder / "tokenizer" / "t5.spiece.model").write_bytes(model.getvalue())
    model = {"type": "WordLevel", "vocab": {"</s>": 0, "<unk>": 1}, "unk_token": "<unk>"}
    end = {"id": 0, "content": "</s>", "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    vocabulary = {"version": "1.0", "added_tokens": [end | {"normalized": False}], "model": model}
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(vocabulary))
    return folder

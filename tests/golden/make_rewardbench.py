"""Makes a benchmark of pairs in RewardBench's shape, and what a plain loop over Hugging Face's model makes of it.

    python -m tests.golden.make_rewardbench

Written to served/rewardbench.expected.json: the checkpoint with its chat template (see variants.py), the rows with the
columns of allenai/reward-bench, both scores of each, and the accuracy in all and by subset, counted as RewardBench does
(`results.append(1) if chosen > rejected else results.append(0)`, rewardbench/rewardbench.py: a tie is not a win).
"""

import random
from typing import Any

import torch
import transformers

from tests.golden.make_served import CHAT_TEMPLATE, WIDE, checkpoint, described, write
from tests.golden.reference import CORPUS, TEXTS, digits

ROWS = 60
SUBSETS = ("alpacaeval-easy", "llmbar-natural", "math-prm", "xstest-should-refuse")
TIED = {7, 31}
"""Rows whose two answers are the same."""

LEAST_MARGIN = 1e-3
"""No other row's margin is smaller: ten times what two implementations may differ by, so that none can turn."""


def benchmark() -> list[dict[str, Any]]:
    """Rows with the columns of allenai/reward-bench, the same at every call."""
    chance = random.Random(0)
    words = [*CORPUS.split(), *TEXTS[3:]]

    def text(longest: int) -> str:
        return " ".join(chance.choices(words, k=chance.randint(1, longest)))

    rows = []
    for number in range(ROWS):
        chosen = text(30)
        rows.append(
            {
                "prompt": text(12),
                "chosen": chosen,
                "chosen_model": "miller",
                "rejected": chosen if number in TIED else text(30),
                "rejected_model": "wheel",
                "subset": SUBSETS[number % len(SUBSETS)],
                "id": 1000 + number,
            }
        )
    return rows


def accuracy(scored: list[tuple[float, float]]) -> float:
    """The share of pairs whose chosen answer has the higher score."""
    results = [1 if chosen > rejected else 0 for chosen, rejected in scored]
    return sum(results) / len(results)


def make() -> None:
    """Scores one conversation at a time."""
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    changes = {**WIDE, "tokenizer_config.json": {**WIDE["tokenizer_config.json"], **special}}
    golden = described("families/qwen3-classifier", changes, {"chat_template.jinja": CHAT_TEMPLATE})
    rows = benchmark()
    with checkpoint(golden) as directory:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()

        def score(prompt: str, answer: str) -> float:
            messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            ids = tokenizer.apply_chat_template(messages, return_dict=False)
            with torch.no_grad():
                (found,) = digits(model(torch.tensor([ids])).logits[0])
            return found

        scored = [tuple(score(row["prompt"], row[answer]) for answer in ("chosen", "rejected")) for row in rows]
    for number, (chosen, rejected) in enumerate(scored):
        assert (chosen == rejected) if number in TIED else abs(chosen - rejected) > LEAST_MARGIN, number
    golden |= {"rows": rows, "scores": scored, "accuracy": accuracy(scored)}
    golden["accuracy_by_subset"] = {
        subset: accuracy([both for both, row in zip(scored, rows, strict=True) if row["subset"] == subset])
        for subset in SUBSETS
    }
    write("rewardbench", golden)


if __name__ == "__main__":
    make()

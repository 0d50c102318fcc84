"""Makes the reference results in this directory with Hugging Face and Sentence Transformers, that is, with torch.

    pip install -e '.[golden]'
    python tests/golden/make_goldens.py tiny                 # random checkpoints and what they must give
    python tests/golden/make_goldens.py minilm DIRECTORY     # what the real all-MiniLM-L6-v2 in DIRECTORY gives

A golden is never adjusted to Millpond's code. `tiny` also makes new weights, from a fixed seed.
"""

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import models, normalizers, pre_tokenizers, processors

GOLDEN = Path(__file__).parent

WORDS = (
    "the mill pond stores water so that the wheel below turns at its best pace however unevenly the river arrives "
    "a queue of requests waits where rain and snow come and go and nothing accepted is ever lost even when workers fall"
)

TINY_TEXTS = [
    "",
    "water",
    "The mill pond stores water.",
    "THE RIVER arrives, unevenly!",
    "a queue of requests waits; nothing accepted is ever lost",
    "naïve café – déjà vu",
    "water 水 and wheel",
    "unknown 😀 sign",
    "rain\tand\n\nsnow   ",
    " ".join(["the river and the mill"] * 6),
    " ".join(["rain falls and workers wait"] * 30),
]


def tiny_tokenizer() -> tokenizers.Tokenizer:
    """A lowercasing WordPiece tokenizer of some two hundred tokens."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*special, *letters, *".,;!-–水", *sorted(set(WORDS.split()) - set(letters))]
    pieces += [f"##{piece}" for piece in (*letters, "ed", "es", "ing", "ly")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))],
    )
    return tokenizer


def spread_weights(model: torch.nn.Module) -> None:
    """Random weights so large that a wrong layer, head or position shows in every digit of the result."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            around = 1.0 if "LayerNorm.weight" in name else 0.0
            spread = 1.0 if "word_embeddings" in name else 0.1 if name.endswith("bias") else 0.3
            parameter.copy_(around + spread * noise)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_lines(path: Path, values: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")


def make_tiny(directory: Path, *, masked_lm: bool) -> None:
    """A random BERT with its tokenizer and Sentence Transformers files, and the vectors it gives for TINY_TEXTS.

    Two kinds: a bare BERT pooled by MEAN and normalised; and one inside BertForMaskedLM (so that its tensors have a
    prefix and company), of other sizes, pooled by CLS and not normalised, with Matryoshka dimensions.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    tokenizer = tiny_tokenizer()
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=36 if masked_lm else 48,
        num_hidden_layers=2 if masked_lm else 3,
        num_attention_heads=3,
        intermediate_size=60 if masked_lm else 100,
        max_position_embeddings=72,
        hidden_act="gelu_new" if masked_lm else "gelu",
        layer_norm_eps=1e-6 if masked_lm else 1e-12,
    )
    model = transformers.BertForMaskedLM(config) if masked_lm else transformers.BertModel(config)
    spread_weights(model)
    if masked_lm:
        model.config.matryoshka_dimensions = [12, 24, 36]
    model.save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    tokenizer.save(str(directory / "tokenizer.json"))
    tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 72}
    tokenizer_config |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    write_json(directory / "tokenizer_config.json", tokenizer_config)
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    modules = ["models.Transformer", "models.Pooling"] if masked_lm else [
        "models.Transformer", "models.Pooling", "models.Normalize",
    ]  # fmt: skip
    paths = ["", "1_Pooling", "2_Normalize"]
    write_json(
        directory / "modules.json",
        [
            {"idx": index, "name": str(index), "path": paths[index], "type": f"sentence_transformers.{kind}"}
            for index, kind in enumerate(modules)
        ],
    )
    pooling: dict[str, object] = {"word_embedding_dimension": config.hidden_size}
    pooling |= {"pooling_mode_cls_token": masked_lm, "pooling_mode_mean_tokens": not masked_lm}
    write_json(directory / "1_Pooling" / "config.json", pooling)
    write_lines(directory.with_name(f"{directory.name}.expected.jsonl"), expected_of_tiny(directory))


def expected_of_tiny(directory: Path) -> list[dict[str, object]]:
    """For each text its ids, the result of Sentence Transformers, and each pooling of Hugging Face's hidden states."""
    sentence_model = SentenceTransformer(str(directory), device="cpu")
    backbone = transformers.AutoModel.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    expected: list[dict[str, object]] = []
    for text in TINY_TEXTS:
        inputs = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            hidden = backbone(**inputs).last_hidden_state[0].double()
        expected.append(
            {
                "text": text,
                "ids": inputs["input_ids"][0].tolist(),
                "ids_untruncated": tokenizer(text)["input_ids"],
                "embedding": digits(sentence_model.encode(text)),
                "MEAN": digits(hidden.mean(0).numpy()),
                "CLS": digits(hidden[0].numpy()),
                "LAST": digits(hidden[-1].numpy()),
            }
        )
    return expected


def digits(vector: np.ndarray) -> list[float]:
    """The numbers of a vector with as many digits as float32 has."""
    return [float(f"{number:.8g}") for number in vector.tolist()]


def minilm_texts() -> list[str]:
    """A hundred texts of every length and kind, among them all that have caused trouble elsewhere."""
    sentences = [
        "A millpond stores water so that the wheel below turns at its best pace.",
        "How do I reset my password if I no longer have the old phone?",
        "The committee postponed its decision until the auditors had read all 214 pages of the report.",
        "def chunks(items, size): return [items[i:i + size] for i in range(0, len(items), size)]",
        "Der Mühlteich speichert Wasser, wie ungleichmäßig der Fluss auch kommt.",
        "磨坊的池塘储存着水，使下面的水车以最佳的速度转动。",
        "水車小屋の池は、川の流れが不規則でも水を蓄えます。",
        "Пруд при мельнице хранит воду.",
        "بركة الطاحونة تخزن الماء",
        "I ❤️ ponds 🦆🦆 and mills 😀, really!",
    ]
    texts = ["", " ", "\n\t", "a", "water", "水", "😀", ".", "[SEP]", "[MASK] and [CLS]", "\u0000\u200b", "e\u0301tude"]
    texts += ["donaudampfschifffahrtsgesellschaftskapitän", "x" * 150, "1234567890" * 10, "WORD " * 7, "a-b_c/d\\e"]
    texts += sentences
    texts += [" ".join(sentences[:count]) for count in range(2, 11)]
    texts += [f"{sentence} {other}" for sentence in sentences[:6] for other in sentences[4:9]]
    texts += [f"item {number}: " + "the wheel turns " * number for number in range(1, 31)]
    texts += ["water " * 253 + "x", "water " * 254, "water " * 255, "The river rises. " * 400]
    return texts


def make_minilm(checkpoint: Path, directory: Path) -> None:
    """The texts and what Sentence Transformers makes of them with the real weights: ids and vectors."""
    model = SentenceTransformer(str(checkpoint), device="cpu")
    texts = minilm_texts()
    vectors = model.encode(texts, batch_size=1, normalize_embeddings=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    ids = [tokenizer(text, truncation=True, max_length=256)["input_ids"] for text in texts]
    directory.mkdir(exist_ok=True)
    write_lines(directory / "texts.jsonl", ({"text": t, "ids": i} for t, i in zip(texts, ids, strict=True)))
    np.save(directory / "vectors.npy", vectors.astype("<f4"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("tiny")
    kinds.add_parser("minilm").add_argument("checkpoint", type=Path)
    arguments = parser.parse_args()
    if arguments.kind == "tiny":
        make_tiny(GOLDEN / "tiny-bert", masked_lm=False)
        make_tiny(GOLDEN / "tiny-bert-cls", masked_lm=True)
    else:
        make_minilm(arguments.checkpoint, GOLDEN / "minilm")


if __name__ == "__main__":
    main()

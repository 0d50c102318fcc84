"""What the scripts that make goldens share: tiny tokenizers, spread weights, texts, and how a golden is written.

A golden is a checkpoint in `families/NAME/` as a user would have it, and `families/NAME.expected.json`: the options it
is served with, and for each input its token ids and the rows that the reference implementation gives in float32.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

FAMILIES = Path(__file__).parent / "families"

CORPUS = (
    "the mill pond stores water so that the wheel below turns at its best pace however unevenly the river arrives "
    "a queue of requests waits where rain and snow come and go and nothing accepted is ever lost even when workers fall"
)

# One token, hardly anything, Chinese, emoji, accents, controls; the longest that fits is added to them.
TEXTS = (
    " ",
    "a",
    "water",
    "The mill pond stores water.",
    "THE RIVER arrives, unevenly!",
    "a queue of requests waits; nothing accepted is ever lost",
    "naïve café – déjà vu",
    "磨坊的池塘储存着水。",
    "I ❤️ ponds 🦆🦆 and mills 😀",
    "rain\tand\n\nsnow   ",
    "x" * 23,
    " ".join(["the river and the mill"] * 3),
)

# Pairs of the same kinds; in two of them only the order differs.
PAIRS = (
    (" ", "a"),
    ("a", " "),
    ("water", "mill"),
    ("The mill pond stores water.", "a queue"),
    ("THE RIVER arrives!", "rain\tand\n\nsnow   "),
    ("where is the water", "the pond stores water"),
    ("naïve café", "déjà vu"),
    ("磨坊的池塘", "储存着水"),
    ("ponds 🦆", "mills 😀"),
    ("x" * 11, "x" * 7),
    ("the river", "the river"),
    ("the mill", "the river"),
    ("the river", "the mill"),
)

# The longest sequence of every tiny checkpoint.
LONGEST = 48

# From a text's inputs to the rows of its result.
Reference = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]


def wordpiece() -> tokenizers.Tokenizer:
    """BERT's kind: lowercased, [CLS] text [SEP], and [SEP] between the texts of a pair."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*special, *letters, *".,;!-–水", *sorted(set(CORPUS.split()) - set(letters))]
    pieces += [f"##{piece}" for piece in (*letters, "ed", "es", "ing", "ly")]
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    return _framed(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ("[CLS]", "[SEP]"))


def byte_level(
    special: Sequence[str], single: str | None = None, pair: str | None = None, size: int = 300
) -> tokenizers.Tokenizer:
    """GPT-2's kind (RoBERTa, Llama 3, Qwen, ModernBERT): byte pairs, with the special tokens that a template names."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS] * 3, trainer)
    return _framed(tokenizer, single, pair, special)


def sentencepiece(special: Sequence[str], single: str | None = None, pair: str | None = None) -> tokenizers.Tokenizer:
    """SentencePiece's kind with byte fallback (Mistral, Gemma, ERNIE, XLM-RoBERTa): spaces are part of the tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token=special[0], fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=[*special, *fallback], show_progress=False)
    tokenizer.train_from_iterator([CORPUS.replace(" ", "▁")] * 3, trainer)
    # The bytes are ordinary tokens: as special ones they would be found in texts.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]
    return _framed(tokenizers.Tokenizer.from_str(json.dumps(state)), single, pair, special)


def _framed(
    tokenizer: tokenizers.Tokenizer, single: str | None, pair: str | None, special: Sequence[str]
) -> tokenizers.Tokenizer:
    if single is not None:
        pair = pair or f"{single} $B:1"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single,
            pair=pair,
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in special if token in single + pair],
        )
    return tokenizer


def spread_weights(model: torch.nn.Module, *, norms_around: float = 1.0, seed: int = 7) -> None:
    """Random weights so large that a wrong layer, head or position shows in every digit of the result.

    Args:
        norms_around: the middle of the norms' weights; Gemma stores them around 0.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim <= 1:
                around = norms_around if "norm" in name.lower() and name.endswith("weight") else 0.0
                parameter.copy_(around + 0.2 * noise)
            else:
                spread = 1.0 if "embed" in name else 1.5 / parameter.shape[-1] ** 0.5
                parameter.copy_(spread * noise)


def save(
    name: str, model: transformers.PreTrainedModel, tokenizer: tokenizers.Tokenizer, **save_options: object
) -> Path:
    """Write a checkpoint, its tokenizer and its longest sequence to families/NAME."""
    directory = FAMILIES / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    model.save_pretrained(directory, **save_options)
    for weights in directory.glob("*.safetensors"):
        weights.chmod(0o644)
    save_tokenizer(directory, tokenizer)
    return directory


def save_tokenizer(directory: Path, tokenizer: tokenizers.Tokenizer, **config: object) -> None:
    """Write tokenizer.json, and tokenizer_config.json with the longest sequence and what `config` has beside."""
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LONGEST, **config},
    )


def write_modules(directory: Path, modules: Sequence[tuple[str, Mapping[str, object] | None]]) -> None:
    """Write modules.json in Sentence Transformers' old form, and the config.json of each module that has one.

    Args:
        modules: kinds in order ("Transformer", "Pooling", ...), and their configurations.
    """
    entries = []
    for number, (kind, config) in enumerate(modules):
        path = "" if kind == "Transformer" else f"{number}_{kind}"
        entries.append(
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        )
        if config is not None:
            write_json(directory / path / "config.json", config)
    write_json(directory / "modules.json", entries)


def texts_for(tokenizer: tokenizers.Tokenizer, ending: str = "") -> list[str]:
    """TEXTS, and one that is exactly as long as the model allows, each with this ending."""
    return [text + ending for text in TEXTS] + [_longest(lambda text: tokenizer.encode(text + ending)) + ending]


def pairs_for(tokenizer: tokenizers.Tokenizer) -> list[tuple[str, str]]:
    """PAIRS, and one that is exactly as long as the model allows."""
    query = "where is the water"
    return [*PAIRS, (query, _longest(lambda text: tokenizer.encode(query, text)))]


def _longest(encode: Callable[[str], tokenizers.Encoding]) -> str:
    """A text of which so many tokens are made as the model allows."""
    long = "water"
    for word in [" the", " mill", " pond", " water", " a", " x"] * LONGEST:
        if len(encode(long + word).ids) <= LONGEST:
            long += word
    assert len(encode(long).ids) == LONGEST
    return long


def expect(
    name: str,
    texts: Sequence[str] | Sequence[tuple[str, str]],
    reference: Reference,
    options: Mapping[str, object] | None = None,
) -> None:
    """Write families/NAME.expected.json: what `reference` makes of each text.

    Args:
        reference: from the model's inputs, as transformers' own tokenizer makes them (input_ids int64 [1, n] and what
            belongs to them), to the rows of a result, float32 [rows, numbers].
        options: fields of `ModelOptions` that the golden is served with.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(FAMILIES / name)
    rows = []
    for text in texts:
        parts = (text,) if isinstance(text, str) else text
        inputs = tokenizer(*parts, return_tensors="pt")
        with torch.no_grad():
            result = reference(inputs)
        rows.append({"text": text, "ids": inputs["input_ids"][0].tolist(), "rows": [digits(row) for row in result]})
    write_json(FAMILIES / f"{name}.expected.json", {"options": dict(options or {}), "inputs": rows})


def last_normalized(model: torch.nn.Module) -> Reference:
    """The last token's hidden state at length 1: how a bare decoder embeds."""
    return lambda inputs: normalized(hidden_states(model, inputs)[-1:])


def mean_normalized(model: torch.nn.Module) -> Reference:
    """The mean of the hidden states at length 1."""
    return lambda inputs: normalized(hidden_states(model, inputs).mean(0, keepdim=True))


def cls_normalized(model: torch.nn.Module) -> Reference:
    """The first token's hidden state at length 1."""
    return lambda inputs: normalized(hidden_states(model, inputs)[:1])


def logits(model: torch.nn.Module) -> Reference:
    """The logits of a classification head, as they are."""
    return lambda inputs: model.eval()(**_accepted(model, inputs)).logits


def hidden_states(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The states of the last layer, float32 [n, hidden]."""
    return model.eval()(**_accepted(model, inputs)).last_hidden_state[0]


def normalized(rows: torch.Tensor) -> torch.Tensor:
    """Each row at length 1."""
    return torch.nn.functional.normalize(rows, dim=-1)


def _accepted(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without token types, where a model does not know them."""
    known = getattr(model.config, "type_vocab_size", 0)
    return {name: value for name, value in inputs.items() if name != "token_type_ids" or (known or 0) > 1}


def digits(vector: torch.Tensor) -> list[float]:
    """The numbers of a vector with as many digits as float32 has."""
    return [float(f"{number:.8g}") for number in np.asarray(vector).tolist()]


def write_json(path: Path, value: object) -> None:
    """Write a file of JSON, with its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")

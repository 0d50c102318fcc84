"""Makes the goldens of embeddings with Sentence Transformers: its modules, every token's row, and its Pooling alone.

python -m tests.golden.make_sentence_transformers
"""

from pathlib import Path

import numpy as np
import safetensors.torch
import sentence_transformers
import torch
import transformers
from sentence_transformers.sentence_transformer.modules import Pooling

from tests.golden.make_decoders import SIZES
from tests.golden.make_encoders import SIZES as ENCODER_SIZES
from tests.golden.reference import (
    FAMILIES,
    LONGEST,
    byte_level,
    digits,
    expect,
    hidden_states,
    normalized,
    save,
    save_tokenizer,
    spread_weights,
    texts_for,
    wordpiece,
    write_json,
    write_modules,
)

POOLING = Path(__file__).parent / "pooling.json"

# The lengths of the sequences that are pooled; to the right of each is padding.
LENGTHS = (1, 2, 7, 4, 7)


def expect_sentences(name: str) -> None:
    """Record what `SentenceTransformer.encode` gives for each text alone, without a prompt."""
    model = sentence_transformers.SentenceTransformer(str(FAMILIES / name), device="cpu")
    texts = texts_for(model.tokenizer.backend_tokenizer)
    vectors = iter(np.asarray(model.encode(texts, batch_size=1, prompt="")))
    expect(name, texts, lambda _: torch.tensor(next(vectors))[None])


def make_last_token() -> None:
    """As Qwen3-Embedding: the last token, normalised, and a prompt for queries that is no default."""
    name = "qwen3-embedding"
    tokenizer = byte_level(["<|endoftext|>", "<|im_end|>"], "$A <|endoftext|>")
    config = transformers.Qwen3Config(**(SIZES | {"num_hidden_layers": 2}), vocab_size=tokenizer.get_vocab_size())
    model = transformers.Qwen3Model(config).eval()
    spread_weights(model)
    directory = save(name, model, tokenizer)
    save_tokenizer(directory, tokenizer, pad_token="<|endoftext|>", padding_side="left")
    pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_lasttoken": True, "include_prompt": True}
    write_modules(
        directory,
        [("Transformer", None), ("Pooling", pooling | {"pooling_mode_mean_tokens": False}), ("Normalize", None)],
    )
    prompts = {"query": "Instruct: find the mill\nQuery:", "document": ""}
    write_json(directory / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    expect_sentences(name)


def make_dense() -> None:
    """The first token through a wider linear layer with a bias and tanh; not normalised."""
    name = "bert-dense"
    tokenizer = wordpiece()
    config = transformers.BertConfig(
        **(ENCODER_SIZES | {"num_hidden_layers": 2}),
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=LONGEST,
    )
    model = transformers.BertModel(config).eval()
    spread_weights(model)
    directory = save(name, model, tokenizer)
    save_tokenizer(directory, tokenizer, pad_token="[PAD]")
    hidden, wide = config.hidden_size, 50
    dense = {"in_features": hidden, "out_features": wide, "bias": True}
    write_modules(
        directory,
        [
            ("Transformer", None),
            ("Pooling", {"embedding_dimension": hidden, "pooling_mode": "cls"}),
            ("Dense", dense | {"activation_function": "torch.nn.modules.activation.Tanh"}),
        ],
    )
    generator = torch.Generator().manual_seed(17)
    weight = torch.randn(wide, hidden, generator=generator) / hidden**0.5
    bias = 0.5 * torch.randn(wide, generator=generator)
    path = directory / "2_Dense" / "model.safetensors"
    safetensors.torch.save_file({"linear.weight": weight, "linear.bias": bias}, path)
    path.chmod(0o644)
    expect_sentences(name)


def make_all_tokens() -> None:
    """Every token's state at length 1, as the pooling type ALL gives them."""
    name = "modernbert-all-tokens"
    tokenizer = byte_level(["[UNK]", "[CLS]", "[SEP]", "[PAD]"], "[CLS] $A [SEP]")
    config = transformers.ModernBertConfig(
        hidden_size=20,
        intermediate_size=28,
        num_attention_heads=2,
        num_hidden_layers=2,
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=LONGEST,
        local_attention=6,
        global_attn_every_n_layers=2,
        pad_token_id=3,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = transformers.ModernBertModel(config).eval()
    spread_weights(model)
    save(name, model, tokenizer)
    options = {"pooler_config": {"pooling_type": "ALL"}}
    expect(name, texts_for(tokenizer), lambda inputs: normalized(hidden_states(model, inputs)), options)


def make_pooling() -> None:
    """What the Pooling module makes of random states, padded to one length with numbers that must not count."""
    generator = torch.Generator().manual_seed(19)
    hidden = 5
    states = torch.randn(len(LENGTHS), max(LENGTHS), hidden, generator=generator)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    features = {"token_embeddings": states, "attention_mask": mask.long()}
    pooled = {
        mode: Pooling(hidden, pooling_mode=mode)(dict(features))["sentence_embedding"]
        for mode in ("cls", "mean", "lasttoken")
    }
    write_json(
        POOLING,
        {
            "states": [[digits(state) for state in sequence] for sequence in states],
            "lengths": LENGTHS,
            "pooled": {mode: [digits(row) for row in rows] for mode, rows in pooled.items()},
        },
    )


if __name__ == "__main__":
    make_last_token()
    make_dense()
    make_all_tokens()
    make_pooling()

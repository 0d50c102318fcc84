"""Makes the goldens of Gemma 3, EmbeddingGemma and ERNIE 4.5 with Hugging Face; see reference.py.

python -m tests.golden.make_gemma_ernie
"""

import numpy as np
import safetensors.torch
import sentence_transformers
import torch
import transformers

from tests.golden.make_decoders import SIZES
from tests.golden.reference import (
    FAMILIES,
    expect,
    last_normalized,
    save,
    save_tokenizer,
    sentencepiece,
    spread_weights,
    texts_for,
    write_modules,
)

SPECIAL = ["<unk>", "<bos>", "<eos>"]


def gemma_config(vocabulary: int, *, bidirectional: bool) -> transformers.Gemma3TextConfig:
    """Sliding and full layers by turns, with two rotary bases and a scale that is not that of head_dim."""
    return transformers.Gemma3TextConfig(
        **(SIZES | {"num_hidden_layers": 4}),
        vocab_size=vocabulary,
        query_pre_attn_scalar=7,
        sliding_window=8 if bidirectional else 5,
        layer_types=["sliding_attention", "full_attention"] * 2,
        use_bidirectional_attention=bidirectional,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 700.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 90.0},
        },
    )


def make_gemma() -> None:
    """The causal language model, embedding by its last token."""
    tokenizer = sentencepiece(SPECIAL, "<bos> $A")
    model = transformers.Gemma3ForCausalLM(gemma_config(tokenizer.get_vocab_size(), bidirectional=False)).eval()
    spread_weights(model, norms_around=0.0)
    save("gemma3", model, tokenizer)
    expect("gemma3", texts_for(tokenizer), last_normalized(model.model))


def make_embedding_gemma() -> None:
    """Tokens see both ways; mean, two dense layers, normalised: what Sentence Transformers itself gives."""
    tokenizer = sentencepiece(SPECIAL, "<bos> $A <eos>")
    model = transformers.Gemma3TextModel(gemma_config(tokenizer.get_vocab_size(), bidirectional=True)).eval()
    spread_weights(model, norms_around=0.0)
    name = "embedding-gemma"
    directory = save(name, model, tokenizer)
    save_tokenizer(directory, tokenizer, pad_token="<eos>")
    generator = torch.Generator().manual_seed(11)
    hidden, wide = SIZES["hidden_size"], 60
    identity = "torch.nn.modules.linear.Identity"
    denses = {}
    for number, (inputs, outputs) in enumerate(((hidden, wide), (wide, hidden)), start=2):
        denses[f"{number}_Dense"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
    write_modules(
        directory,
        [
            ("Transformer", None),
            ("Pooling", {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True}),
            ("Dense", {"in_features": hidden, "out_features": wide, "bias": False, "activation_function": identity}),
            ("Dense", {"in_features": wide, "out_features": hidden, "bias": False, "activation_function": identity}),
            ("Normalize", None),
        ],
    )
    for path, weight in denses.items():
        safetensors.torch.save_file({"linear.weight": weight.contiguous()}, directory / path / "model.safetensors")
        (directory / path / "model.safetensors").chmod(0o644)
    sentences = sentence_transformers.SentenceTransformer(str(FAMILIES / name), device="cpu")
    texts = texts_for(tokenizer)
    vectors = iter(np.asarray(sentences.encode(texts, batch_size=1)))
    expect(name, texts, lambda _: torch.tensor(next(vectors))[None])


def make_ernie() -> None:
    """Biases, and an interleaved rotary embedding."""
    tokenizer = sentencepiece(SPECIAL, None)
    config = transformers.Ernie4_5Config(
        **SIZES, vocab_size=tokenizer.get_vocab_size(), use_bias=True, tie_word_embeddings=True
    )
    model = transformers.Ernie4_5ForCausalLM(config).eval()
    spread_weights(model)
    save("ernie", model, tokenizer)
    expect("ernie", texts_for(tokenizer), last_normalized(model.model))


def make_ernie_moe() -> None:
    """Five experts of which two count, a shared one, and a first layer without; the bias changes the choice only."""
    tokenizer = sentencepiece(SPECIAL, None)
    config = transformers.Ernie4_5_MoeConfig(
        **SIZES,
        vocab_size=tokenizer.get_vocab_size(),
        moe_intermediate_size=28,
        moe_k=2,
        moe_num_experts=5,
        moe_num_shared_experts=1,
        tie_word_embeddings=False,
    )
    model = transformers.Ernie4_5_MoeForCausalLM(config).eval()
    spread_weights(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("e_score_correction_bias"):
                parameter.copy_(torch.tensor([[0.3, -0.2, 0.1, 0.0, -0.1]]))
    save("ernie-moe", model, tokenizer)
    expect("ernie-moe", texts_for(tokenizer), last_normalized(model.model))


if __name__ == "__main__":
    make_gemma()
    make_embedding_gemma()
    make_ernie()
    make_ernie_moe()

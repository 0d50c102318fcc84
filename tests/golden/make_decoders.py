"""Makes the goldens of Llama, Mistral, Qwen2 and Qwen3 with Hugging Face; see reference.py.

python -m tests.golden.make_decoders
"""

from collections.abc import Mapping

import torch
import transformers

from tests.golden.reference import (
    LONGEST,
    Reference,
    byte_level,
    expect,
    last_normalized,
    save,
    sentencepiece,
    spread_weights,
    texts_for,
)

# Odd sizes, grouped-query heads, and a head_dim that is not hidden / heads.
SIZES = {
    "hidden_size": 36,
    "intermediate_size": 52,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": LONGEST,
}

LLAMA_ROPES: dict[str, dict[str, object]] = {
    "llama": {"rope_type": "default", "rope_theta": 500.0},
    "llama-linear": {"rope_type": "linear", "factor": 2.5, "rope_theta": 500.0},
    "llama-dynamic": {"rope_type": "dynamic", "factor": 3.0, "rope_theta": 500.0},
    "llama-3": {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 24,
    },
    "llama-yarn": {
        "rope_type": "yarn",
        "rope_theta": 500.0,
        "factor": 4.0,
        "original_max_position_embeddings": 12,
    },
}


def make_llamas() -> None:
    """One for each rotary embedding; the plain one has biases and several shards."""
    for name, rope in LLAMA_ROPES.items():
        tokenizer = byte_level(["<|begin|>", "<|end|>"], "<|begin|> $A")
        sizes = SIZES | {"num_hidden_layers": 3 if name == "llama" else 1}
        # Dynamic scaling begins beyond the trained length, a third of the longest text.
        if name == "llama-dynamic":
            sizes |= {"max_position_embeddings": 16}
        config = transformers.LlamaConfig(
            **sizes,
            vocab_size=tokenizer.get_vocab_size(),
            rope_parameters=rope,
            attention_bias=name == "llama",
            mlp_bias=name == "llama",
            rms_norm_eps=1e-5,
        )
        model = transformers.LlamaModel(config)
        spread_weights(model)
        if name == "llama":
            save(name, model, tokenizer, max_shard_size="40KB")
        else:
            save(name, model, tokenizer)
        expect(name, texts_for(tokenizer), forgetful(last_normalized(model), model))


def forgetful(reference: Reference, model: transformers.LlamaModel) -> Reference:
    """With new rotary embeddings for each text: transformers' dynamic ones remember the longest so far."""

    def fresh(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        model.rotary_emb = type(model.rotary_emb)(model.config)
        return reference(inputs)

    return fresh


def make_mistral() -> None:
    """A window of 5 tokens; tied embeddings of a causal language model, whose prefix is `model.`."""
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>"], "<s> $A")
    config = transformers.MistralConfig(
        **SIZES,
        vocab_size=tokenizer.get_vocab_size(),
        sliding_window=5,
        tie_word_embeddings=True,
    )
    model = transformers.MistralForCausalLM(config)
    spread_weights(model)
    save("mistral", model, tokenizer)
    expect("mistral", texts_for(tokenizer), last_normalized(model.model))


def make_qwen2() -> None:
    """The last two of three layers slide."""
    tokenizer = byte_level(["<|endoftext|>", "<|im_end|>"])
    config = transformers.Qwen2Config(
        **{name: size for name, size in SIZES.items() if name not in ("head_dim", "hidden_size")},
        hidden_size=48,
        vocab_size=tokenizer.get_vocab_size() + 5,
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=1,
    )
    model = transformers.Qwen2Model(config)
    spread_weights(model)
    save("qwen2", model, tokenizer)
    expect("qwen2", texts_for(tokenizer), last_normalized(model))


def make_two_way_qwen2() -> None:
    """As gte-Qwen2: tokens see those after them too; the last of two layers slides."""
    tokenizer = byte_level(["<|endoftext|>", "<|im_end|>"])
    config = transformers.Qwen2Config(
        **{name: size for name, size in SIZES.items() if name not in ("head_dim", "hidden_size", "num_hidden_layers")},
        hidden_size=24,
        num_hidden_layers=2,
        vocab_size=tokenizer.get_vocab_size(),
        use_sliding_window=True,
        sliding_window=7,
        max_window_layers=1,
        is_causal=False,
    )
    model = transformers.Qwen2Model(config)
    spread_weights(model)
    save("qwen2-two-way", model, tokenizer)
    expect("qwen2-two-way", texts_for(tokenizer), last_normalized(model))


def make_qwen3() -> None:
    """As Qwen3-Embedding: the tokenizer ends each text with a token that is pooled."""
    tokenizer = byte_level(["<|endoftext|>", "<|im_end|>"], "$A <|endoftext|>")
    config = transformers.Qwen3Config(**SIZES, vocab_size=tokenizer.get_vocab_size(), tie_word_embeddings=True)
    model = transformers.Qwen3ForCausalLM(config)
    spread_weights(model)
    save("qwen3", model, tokenizer)
    expect("qwen3", texts_for(tokenizer), last_normalized(model.model))


if __name__ == "__main__":
    make_llamas()
    make_mistral()
    make_qwen2()
    make_two_way_qwen2()
    make_qwen3()

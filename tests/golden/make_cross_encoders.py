"""Makes the goldens of rerankers with Sentence Transformers' CrossEncoder; see reference.py.

    python -m tests.golden.make_cross_encoders

What they give for a pair is what `CrossEncoder.predict` gives, with the activation that the checkpoint states.
"""

from pathlib import Path

import numpy as np
import sentence_transformers
import torch
import transformers

from tests.golden.make_decoders import SIZES
from tests.golden.make_encoders import ROBERTA_SIZES
from tests.golden.make_encoders import SIZES as ENCODER_SIZES
from tests.golden.reference import (
    FAMILIES,
    LONGEST,
    byte_level,
    expect,
    pairs_for,
    save,
    save_tokenizer,
    sentencepiece,
    spread_weights,
    wordpiece,
    write_json,
)

TWO_LAYERS = {"num_hidden_layers": 2}
SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


def state(directory: Path, **stated: object) -> None:
    """Put into config.json what Sentence Transformers reads there."""
    config = transformers.PretrainedConfig.get_config_dict(directory)[0]
    write_json(directory / "config.json", config | stated)


def expect_predictions(name: str) -> np.ndarray:
    """Record what a CrossEncoder gives for pairs, and return it."""
    model = sentence_transformers.CrossEncoder(str(FAMILIES / name), device="cpu")
    pairs = pairs_for(model.tokenizer.backend_tokenizer)
    for pair in pairs:
        assert model.preprocess([pair])["input_ids"].tolist() == [model.tokenizer(*pair)["input_ids"]], pair
    scores = np.asarray(model.predict(pairs, batch_size=1))
    each = iter(scores)
    expect(name, pairs, lambda _: torch.tensor([[next(each)]]))
    return scores


def make_bert() -> None:
    """Sigmoid, as it was stated until Sentence Transformers 6; the second text is another segment."""
    tokenizer = wordpiece()
    config = transformers.BertConfig(
        **(ENCODER_SIZES | TWO_LAYERS),
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=LONGEST,
        num_labels=1,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    spread_weights(model)
    directory = save("bert-cross-encoder", model, tokenizer)
    state(directory, sentence_transformers={"activation_fn": SIGMOID, "version": "5.1.0"})
    save_tokenizer(directory, tokenizer, pad_token="[PAD]")
    without_segments = expect_predictions("bert-cross-encoder")
    names = ["input_ids", "token_type_ids", "attention_mask"]
    save_tokenizer(directory, tokenizer, pad_token="[PAD]", model_input_names=names)
    scores = expect_predictions("bert-cross-encoder")
    assert np.abs(scores - without_segments).mean() > 0.1, "segments should matter"
    assert scores.min() < 0.3 < 0.7 < scores.max(), "scores should be spread"


def make_xlm_roberta() -> None:
    """Identity, as it was stated before Sentence Transformers 4."""
    tokenizer = sentencepiece(["<unk>", "<pad>", "<s>", "</s>"], "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    config = transformers.XLMRobertaConfig(
        **(ROBERTA_SIZES | TWO_LAYERS), vocab_size=tokenizer.get_vocab_size(), num_labels=1
    )
    model = transformers.XLMRobertaForSequenceClassification(config).eval()
    spread_weights(model)
    directory = save("xlm-roberta-cross-encoder", model, tokenizer)
    save_tokenizer(directory, tokenizer, pad_token="<pad>")
    state(directory, sbert_ce_default_activation_function=IDENTITY)
    assert expect_predictions("xlm-roberta-cross-encoder").min() < 0


def make_modernbert() -> None:
    """Sigmoid in the oldest form, of a head that reads the first token."""
    tokenizer = byte_level(["[UNK]", "[CLS]", "[SEP]", "[PAD]"], "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")
    config = transformers.ModernBertConfig(
        **(ENCODER_SIZES | TWO_LAYERS),
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=LONGEST,
        local_attention=6,
        global_attn_every_n_layers=2,
        classifier_pooling="cls",
        classifier_bias=True,
        pad_token_id=3,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
        num_labels=1,
    )
    model = transformers.ModernBertForSequenceClassification(config).eval()
    spread_weights(model)
    directory = save("modernbert-cross-encoder", model, tokenizer)
    save_tokenizer(directory, tokenizer, pad_token="[PAD]")
    state(directory, sbert_ce_default_activation_function="torch.nn.modules.activation.Sigmoid")
    expect_predictions("modernbert-cross-encoder")


def make_logit_score() -> None:
    """A language model whose modules.json reads the difference of two tokens' logits at the last token."""
    name = "logit-score-reranker"
    tokenizer = byte_level(["<|endoftext|>", "<|sep|>", "yes", "no"], "$A", "$A <|sep|> $B")
    config = transformers.Qwen3Config(
        **(SIZES | {"num_hidden_layers": 1}), vocab_size=tokenizer.get_vocab_size(), tie_word_embeddings=False
    )
    model = transformers.Qwen3ForCausalLM(config).eval()
    spread_weights(model)
    directory = save(name, model, tokenizer)
    save_tokenizer(directory, tokenizer, pad_token="<|endoftext|>")
    yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
    modules = {
        "": "sentence_transformers.base.modules.transformer.Transformer",
        "1_LogitScore": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
    }
    write_json(
        directory / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": modules[path]}
            for number, path in enumerate(modules)
        ],
    )
    write_json(directory / "1_LogitScore" / "config.json", {"true_token_id": yes, "false_token_id": no})
    text = {"method": "forward", "method_output_name": "logits"}
    write_json(
        directory / "sentence_bert_config.json",
        {
            "transformer_task": "text-generation",
            "modality_config": {"text": text},
            "module_output_name": "causal_logits",
        },
    )
    write_json(
        directory / "config_sentence_transformers.json",
        {"model_type": "CrossEncoder", "activation_fn": IDENTITY, "prompts": {}, "default_prompt_name": None},
    )
    assert expect_predictions(name).min() < 0


if __name__ == "__main__":
    make_bert()
    make_xlm_roberta()
    make_modernbert()
    make_logit_score()

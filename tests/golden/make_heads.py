"""Makes the goldens of the heads behind decoders and of cross encoders; see reference.py.

    python -m tests.golden.make_heads

The heads that transformers does not know (Qwen2.5-Math's) are its backbone with the layers that their own code adds.
"""

from collections.abc import Mapping

import torch
import transformers

from tests.golden.make_decoders import SIZES
from tests.golden.make_encoders import SIZES as ENCODER_SIZES
from tests.golden.reference import (
    FAMILIES,
    LONGEST,
    Reference,
    byte_level,
    expect,
    hidden_states,
    pairs_for,
    save,
    save_tokenizer,
    sentencepiece,
    spread_weights,
    texts_for,
    wordpiece,
    write_json,
)

CLASSIFIER_SIZES = SIZES | {"num_hidden_layers": 2}

QWEN_SIZES = {name: size for name, size in SIZES.items() if name not in ("head_dim", "hidden_size")} | {
    "hidden_size": 48,
    "num_hidden_layers": 2,
}


class QwenReward(transformers.Qwen2PreTrainedModel):
    """Qwen2 with Qwen2.5-Math's head: linear, ReLU, linear."""

    def __init__(self, config: transformers.Qwen2Config) -> None:
        super().__init__(config)
        self.model = transformers.Qwen2Model(config)
        self.score = torch.nn.Sequential(
            torch.nn.Linear(config.hidden_size, config.hidden_size),
            torch.nn.ReLU(),
            torch.nn.Linear(config.hidden_size, config.num_labels),
        )
        self.post_init()


def rename_architecture(name: str, architecture: str) -> None:
    """Give a saved checkpoint the name of the class that its authors use."""
    path = FAMILIES / name / "config.json"
    config = transformers.PretrainedConfig.get_config_dict(FAMILIES / name)[0]
    write_json(path, config | {"architectures": [architecture]})


def make_qwen_rewards() -> None:
    """An outcome reward, raw, at the last token; and a process reward: the probability of the second label a step."""
    step = "<extra_0>"
    tokenizer = byte_level(["<|endoftext|>", step])
    for name, labels, architecture in (
        ("qwen2-reward", 1, "Qwen2ForRewardModel"),
        ("qwen2-process-reward", 2, "Qwen2ForProcessRewardModel"),
    ):
        config = transformers.Qwen2Config(**QWEN_SIZES, vocab_size=tokenizer.get_vocab_size(), num_labels=labels)
        model = QwenReward(config).eval()
        spread_weights(model)
        save(name, model, tokenizer)
        rename_architecture(name, architecture)
        if labels == 1:
            expect(name, texts_for(tokenizer), last_scores(model))
            continue
        options = {"pooler_config": {"step_tag_id": tokenizer.token_to_id(step)}}
        texts = [*texts_for(tokenizer, step), f"a{step}rain{step} {step}{step}", step]
        expect(name, texts, step_scores(model, tokenizer.token_to_id(step)), options)


def last_scores(model: QwenReward) -> Reference:
    """The head's output for the last token."""
    return lambda inputs: model.score(hidden_states(model.model, inputs)[-1:])


def step_scores(model: QwenReward, tag: int) -> Reference:
    """For each step tag the probability of the second label, as the model's card computes it."""

    def scores(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        states = hidden_states(model.model, inputs)[inputs["input_ids"][0] == tag]
        return torch.softmax(model.score(states), dim=-1)[:, 1:]

    return scores


def make_sequence_classifiers() -> None:
    """One label (a raw reward) or several, scored at the last token."""
    for name, labels, tokenizer, config_class, model_class, sizes in (
        (
            "llama-classifier",
            1,
            byte_level(["<|begin|>", "<pad>"], "<|begin|> $A"),
            transformers.LlamaConfig,
            transformers.LlamaForSequenceClassification,
            CLASSIFIER_SIZES,
        ),
        (
            "mistral-classifier",
            3,
            sentencepiece(["<unk>", "<s>", "</s>"], "<s> $A"),
            transformers.MistralConfig,
            transformers.MistralForSequenceClassification,
            CLASSIFIER_SIZES,
        ),
        (
            "qwen3-classifier",
            1,
            byte_level(["<|endoftext|>", "<pad>"]),
            transformers.Qwen3Config,
            transformers.Qwen3ForSequenceClassification,
            CLASSIFIER_SIZES,
        ),
        (
            "qwen2-classifier",
            1,
            byte_level(["<|endoftext|>", "<pad>"]),
            transformers.Qwen2Config,
            transformers.Qwen2ForSequenceClassification,
            QWEN_SIZES | {"num_hidden_layers": 1},
        ),
        (
            "gemma3-classifier",
            2,
            sentencepiece(["<unk>", "<bos>", "<eos>"], "<bos> $A"),
            transformers.Gemma3TextConfig,
            transformers.Gemma3TextForSequenceClassification,
            CLASSIFIER_SIZES | {"intermediate_size": 44},
        ),
    ):
        config = config_class(**sizes, vocab_size=tokenizer.get_vocab_size())
        config.num_labels = labels
        model = model_class(config).eval()
        spread_weights(model, norms_around=0.0 if name.startswith("gemma") else 1.0)
        save(name, model, tokenizer)
        expect(name, texts_for(tokenizer), lambda inputs, m=model: m.score(hidden_states(m.model, inputs)[-1:]))


def make_token_heads() -> None:
    """Rewards and relevance read off two tokens of a language-model head: math-shepherd, and Qwen3-Reranker."""
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>", "ки", "+", "-"], "<s> $A")
    tag, good, bad = (tokenizer.token_to_id(token) for token in ("ки", "+", "-"))
    config = transformers.MistralConfig(
        **(SIZES | {"num_hidden_layers": 2}), vocab_size=tokenizer.get_vocab_size(), sliding_window=None
    )
    shepherd = transformers.MistralForCausalLM(config).eval()
    spread_weights(shepherd)
    save("math-shepherd", shepherd, tokenizer)

    def steps(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits = shepherd(inputs["input_ids"]).logits[0][:, [good, bad]]
        return torch.softmax(logits, dim=-1)[inputs["input_ids"][0] == tag][:, :1]

    pooler = {"pooling_type": "STEP", "step_tag_id": tag, "returned_token_ids": [good, bad], "activation": "softmax"}
    texts = [*texts_for(tokenizer, " ки"), "a ки rain ки water ки", "a кики", "ки"]
    expect("math-shepherd", texts, steps, {"pooler_config": pooler})

    tokenizer = byte_level(["<|endoftext|>", "yes", "no"])
    yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
    config = transformers.Qwen3Config(
        **(SIZES | {"num_hidden_layers": 2}), vocab_size=tokenizer.get_vocab_size(), tie_word_embeddings=True
    )
    reranker = transformers.Qwen3ForCausalLM(config).eval()
    spread_weights(reranker)
    save("qwen3-reranker", reranker, tokenizer)

    def relevance(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.softmax(reranker(inputs["input_ids"]).logits[0, -1:, [yes, no]], dim=-1)[:, :1]

    pooler = {"returned_token_ids": [yes, no], "activation": "softmax"}
    expect("qwen3-reranker", texts_for(tokenizer), relevance, {"pooler_config": pooler})


def make_bert_classifier() -> None:
    """Three labels, of single texts and of pairs, whose second text is another segment."""
    tokenizer = wordpiece()
    config = transformers.BertConfig(
        **ENCODER_SIZES, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=LONGEST, num_labels=3
    )
    model = transformers.BertForSequenceClassification(config).eval()
    spread_weights(model)
    directory = save("bert-classifier", model, tokenizer)
    save_tokenizer(directory, tokenizer, model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    expect("bert-classifier", [*texts_for(tokenizer), *pairs_for(tokenizer)], lambda inputs: model(**inputs).logits)


if __name__ == "__main__":
    make_qwen_rewards()
    make_sequence_classifiers()
    make_token_heads()
    make_bert_classifier()

"""Makes the goldens of RoBERTa, XLM-RoBERTa, DistilBERT, MPNet and ModernBERT with Hugging Face; see reference.py.

python -m tests.golden.make_encoders
"""

import transformers

from tests.golden.reference import (
    LONGEST,
    byte_level,
    expect,
    logits,
    mean_normalized,
    pairs_for,
    save,
    sentencepiece,
    spread_weights,
    texts_for,
    wordpiece,
)

SIZES = {"hidden_size": 36, "intermediate_size": 52, "num_hidden_layers": 3, "num_attention_heads": 6}

# Positions begin behind the padding token, whose id is 1: the table is two longer than the longest text.
ROBERTA_SIZES = SIZES | {"max_position_embeddings": LONGEST + 2, "type_vocab_size": 1, "pad_token_id": 1}


def make_roberta() -> None:
    """A bare RoBERTa, one that scores pairs, and an XLM-RoBERTa that classifies texts and pairs into three labels."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = byte_level(special, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    model = transformers.RobertaModel(
        transformers.RobertaConfig(**ROBERTA_SIZES, vocab_size=tokenizer.get_vocab_size()), add_pooling_layer=False
    )
    spread_weights(model)
    save("roberta", model, tokenizer)
    expect("roberta", texts_for(tokenizer), mean_normalized(model))
    config = transformers.RobertaConfig(**ROBERTA_SIZES, vocab_size=tokenizer.get_vocab_size(), num_labels=1)
    config.num_hidden_layers = 2
    scorer = transformers.RobertaForSequenceClassification(config)
    spread_weights(scorer)
    save("roberta-classifier", scorer, tokenizer)
    expect("roberta-classifier", pairs_for(tokenizer), logits(scorer))

    tokenizer = sentencepiece(["<unk>", "<pad>", "<s>", "</s>"], "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    config = transformers.XLMRobertaConfig(**ROBERTA_SIZES, vocab_size=tokenizer.get_vocab_size(), num_labels=3)
    classifier = transformers.XLMRobertaForSequenceClassification(config)
    spread_weights(classifier)
    save("xlm-roberta-classifier", classifier, tokenizer)
    expect("xlm-roberta-classifier", [*texts_for(tokenizer), *pairs_for(tokenizer)], logits(classifier))


def make_distilbert() -> None:
    """A bare DistilBERT, and one that classifies."""
    tokenizer = wordpiece()
    config = transformers.DistilBertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        dim=36,
        hidden_dim=52,
        n_layers=3,
        n_heads=6,
        max_position_embeddings=LONGEST,
        num_labels=4,
    )
    model = transformers.DistilBertModel(config)
    spread_weights(model)
    save("distilbert", model, tokenizer)
    expect("distilbert", texts_for(tokenizer), mean_normalized(model))
    classifier = transformers.DistilBertForSequenceClassification(config)
    spread_weights(classifier)
    save("distilbert-classifier", classifier, tokenizer)
    expect("distilbert-classifier", texts_for(tokenizer), logits(classifier))


def make_mpnet() -> None:
    """A masked language model, whose backbone has a prefix; and one that classifies texts and pairs."""
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "[UNK]"], "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    sizes = {name: size for name, size in ROBERTA_SIZES.items() if name != "type_vocab_size"}
    config = transformers.MPNetConfig(**sizes, vocab_size=tokenizer.get_vocab_size(), relative_attention_num_buckets=32)
    model = transformers.MPNetForMaskedLM(config)
    spread_weights(model)
    save("mpnet", model, tokenizer)
    expect("mpnet", texts_for(tokenizer), mean_normalized(model.mpnet))
    config.num_labels, config.num_hidden_layers = 2, 2
    classifier = transformers.MPNetForSequenceClassification(config)
    spread_weights(classifier)
    save("mpnet-classifier", classifier, tokenizer)
    expect("mpnet-classifier", [*texts_for(tokenizer), *pairs_for(tokenizer)], logits(classifier))


def make_modernbert() -> None:
    """Every second of five layers sees the whole sequence, the others nine tokens; and one that classifies by mean."""
    tokenizer = byte_level(["[UNK]", "[CLS]", "[SEP]", "[PAD]"], "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")
    config = transformers.ModernBertConfig(
        **(SIZES | {"num_hidden_layers": 5}),
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=LONGEST,
        local_attention=8,
        global_attn_every_n_layers=2,
        pad_token_id=3,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
        attention_bias=True,
        num_labels=1,
    )
    model = transformers.ModernBertModel(config)
    spread_weights(model)
    save("modernbert", model, tokenizer)
    expect("modernbert", texts_for(tokenizer), mean_normalized(model))
    config.classifier_pooling = "mean"
    classifier = transformers.ModernBertForSequenceClassification(config)
    spread_weights(classifier)
    save("modernbert-classifier", classifier, tokenizer)
    expect("modernbert-classifier", texts_for(tokenizer), logits(classifier))


if __name__ == "__main__":
    make_roberta()
    make_distilbert()
    make_mpnet()
    make_modernbert()

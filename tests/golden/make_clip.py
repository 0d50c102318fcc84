"""Makes the goldens of CLIP and SigLIP: tiny checkpoints, and what transformers makes of texts and images.

Needs sentencepiece, which SiglipTokenizer is made of.

python -m tests.golden.make_clip
"""

import io
import json
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import sentencepiece
import tokenizers
import torch
import transformers
from PIL import Image
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.golden.reference import CORPUS, TEXTS, digits, normalized, spread_weights, write_json
from tests.golden.vision import IMAGES, SIZES, VISION, make_images

# The longest text of each of these checkpoints; those of SigLIP are all filled up to that.
LONGEST = 48

# Odd sizes, another number of heads in each tower, and images whose last pixels fill no patch.
TEXT_TOWER: Mapping[str, object] = {
    "hidden_size": 20,
    "intermediate_size": 26,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": LONGEST,
}
IMAGE_TOWER: Mapping[str, object] = {
    "hidden_size": 24,
    "intermediate_size": 34,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 8,
}

START, END = "<|startoftext|>", "<|endoftext|>"

# From a model and token ids, int64 [1, n], to the embedding before it is normalised, float32 [1, width].
TextReference = Callable[[torch.Tensor], torch.Tensor]


def clip_tokenizer() -> transformers.CLIPTokenizer:
    """CLIP's: byte pairs that know where a word ends; the special tokens have the highest ids."""
    trained = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator([CORPUS.replace(" ", "\n")] * 3, trainer)
    merges = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]
    pieces = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(merge) for merge in merges)]
    vocabulary = {piece: number for number, piece in enumerate([*dict.fromkeys(pieces), START, END])}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LONGEST)


def gemma_tokenizer() -> transformers.GemmaTokenizer:
    """SigLIP 2's: Gemma's, which ends a text and does not begin it, and fills up before it."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trained = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=[*special, *fallback], show_progress=False)
    trained.train_from_iterator([CORPUS] * 3, trainer)
    state = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in state["merges"]]
    tokenizer = transformers.GemmaTokenizer(vocab=state["vocab"], merges=merges, model_max_length=LONGEST)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", state["vocab"]["<eos>"])]
    )
    return tokenizer


def save_siglip_tokenizer(name: str) -> None:
    """SigLIP's: SentencePiece's unigrams, also as tokenizer.json; what the class does to texts is in neither."""
    directory = VISION / name
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([CORPUS] * 3),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    (directory / "spiece.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(processor.id_to_piece(number), processor.get_score(number)) for number in range(len(processor))]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([tokenizers.AddedToken(piece, special=True) for piece in ("</s>", "<unk>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "SiglipTokenizer",
            "model_max_length": LONGEST,
            "model_input_names": ["input_ids"],
            "do_lower_case": True,
            "pad_token": "</s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
        },
    )


def texts_for(tokenizer: Any) -> list[str]:
    """TEXTS, punctuation, the end of a text within one, and a text that is exactly as long as the model allows."""
    long = "water"
    for word in [" the", " mill", " pond", " water", " a", " x"] * LONGEST:
        if len(tokenizer(long + word)["input_ids"]) <= LONGEST:
            long += word
    assert len(tokenizer(long)["input_ids"]) == LONGEST
    return [*TEXTS, "What's (the) river's name?!", f"a mill {tokenizer.eos_token} and the pond", long]


def save(name: str, model: transformers.PreTrainedModel, processor: Any) -> None:
    """Write a checkpoint and its image processor's settings to vision/NAME."""
    spread_weights(model)
    with torch.no_grad():
        # Hundreds of pixels add up in a patch: with weights of the others' size it would drown what layers add.
        model.vision_model.embeddings.patch_embedding.weight.mul_(0.1)
        # Attention that looks at few places: a mean over nearly all would hide which they are.
        for part, parameter in model.named_parameters():
            if part.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(1.5)
            if part.endswith("in_proj_weight"):
                parameter[: 2 * parameter.shape[1]].mul_(1.5)
    directory = VISION / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    model.save_pretrained(directory)
    for weights in directory.glob("*.safetensors"):
        weights.chmod(0o644)
    kind = type(processor).__name__.removesuffix("Pil")
    settings = {key: value for key, value in processor.to_dict().items() if value is not None}
    write_json(directory / "preprocessor_config.json", {**settings, "image_processor_type": kind})


def expect(name: str, model: Any, text: TextReference, processor: Any) -> None:
    """Write vision/NAME.expected.json: the embeddings of texts and of images, at length 1; images have the id 0."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(VISION / name)
    inputs = []
    with torch.no_grad():
        for words in texts_for(tokenizer):
            ids = tokenizer(words, return_tensors="pt")["input_ids"]
            row = normalized(text(ids))
            messages = [{"role": "user", "content": words}]
            inputs.append({"messages": messages, "ids": ids[0].tolist(), "rows": [digits(row[0])]})
        for file in SIZES:
            image = Image.open(IMAGES / f"{file}.png").convert("RGB")
            row = normalized(model.get_image_features(**processor(image, return_tensors="pt")).pooler_output)
            messages = [{"role": "user", "content": [{"type": "image", "image": f"{file}.png"}]}]
            inputs.append({"messages": messages, "ids": [0], "rows": [digits(row[0])]})
    write_json(VISION / f"{name}.expected.json", {"inputs": inputs})
    print(name, type(tokenizer).__name__, [len(each["ids"]) for each in inputs])


def make_clip(name: str, act: str, *, mistaken_end: bool) -> None:
    """CLIP with the end of texts that its tokenizer has, or with another, as OpenAI published it."""
    tokenizer = clip_tokenizer()
    vocabulary = len(tokenizer)
    config = transformers.CLIPConfig(
        text_config={
            **TEXT_TOWER,
            "vocab_size": vocabulary,
            "hidden_act": act,
            "bos_token_id": 0 if mistaken_end else vocabulary - 2,
            "eos_token_id": 2 if mistaken_end else vocabulary - 1,
        },
        vision_config={**IMAGE_TOWER, "hidden_act": act},
        projection_dim=18,
    )
    model = transformers.CLIPModel(config).eval()
    # The shorter side becomes longer than what is taken of it.
    processor = CLIPImageProcessorPil(size={"shortest_edge": 30}, crop_size={"height": 28, "width": 28})
    save(name, model, processor)
    tokenizer.save_pretrained(VISION / name)
    expect(name, model, lambda ids: model.get_text_features(ids).pooler_output, processor)


def make_siglip() -> None:
    """SigLIP: both towers as wide as an embedding."""
    ids = {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1}
    tower = {**TEXT_TOWER, **ids, "hidden_size": 24, "vocab_size": 128}
    config = transformers.SiglipConfig(text_config=tower, vision_config=dict(IMAGE_TOWER))
    make_filled_up("siglip", config, save_siglip_tokenizer)


def make_siglip2() -> None:
    """SigLIP 2: texts are projected to the width of images, and filled up before."""
    tokenizer = gemma_tokenizer()
    ids = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 1}  # as published, where <pad> has the id 0
    tower = {**TEXT_TOWER, **ids, "vocab_size": len(tokenizer), "projection_size": 24}
    config = transformers.SiglipConfig(text_config=tower, vision_config={**IMAGE_TOWER, "image_size": 24})
    make_filled_up("siglip2", config, lambda name: tokenizer.save_pretrained(VISION / name))


def make_filled_up(name: str, config: transformers.SiglipConfig, save_tokenizer: Callable[[str], object]) -> None:
    """One of the two; texts go in as their tokenizer fills them up."""
    model = transformers.SiglipModel(config).eval()
    side = config.vision_config.image_size
    processor = SiglipImageProcessorPil(size={"height": side, "width": side})
    save(name, model, processor)
    save_tokenizer(name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(VISION / name)

    def text(ids: torch.Tensor) -> torch.Tensor:
        filled = tokenizer.pad({"input_ids": ids}, padding="max_length", max_length=LONGEST, return_tensors="pt")
        return model.get_text_features(filled["input_ids"]).pooler_output

    expect(name, model, text, processor)


def main() -> None:
    """All four."""
    make_images()
    make_clip("clip", "quick_gelu", mistaken_end=True)
    make_clip("clip-right-end", "gelu", mistaken_end=False)
    make_siglip()
    make_siglip2()


if __name__ == "__main__":
    main()

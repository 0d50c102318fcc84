"""Makes the goldens of ERNIE 4.5 VL: as transformers writes it, and as Baidu does, with a reward head; text and images.

python -m tests.golden.make_ernie_vl
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
import tokenizers
import torch
import transformers
from transformers.models.ernie4_5_vl_moe.image_processing_pil_ernie4_5_vl_moe import Ernie4_5_VLMoeImageProcessorPil

from tests.golden.reference import (
    FAMILIES,
    LONGEST,
    expect,
    hidden_states,
    last_normalized,
    save,
    save_tokenizer,
    sentencepiece,
    spread_weights,
    texts_for,
    write_json,
)
from tests.golden.vision import LONGEST as LONGEST_WITH_IMAGES
from tests.golden.vision import VISION as IMAGE_GOLDENS
from tests.golden.vision import conversations, expect_conversations, save_texts, save_vision, vision_tokenizer

EXPERTS = 5

# Odd sizes, grouped-query heads, a head_dim that is not hidden / heads; experts for images are narrower.
SIZES: Mapping[str, object] = {
    "hidden_size": 20,
    "intermediate_size": 26,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": LONGEST,
    "moe_intermediate_size": [10, 6],
    "moe_k": 2,
    "moe_num_shared_experts": 2,
    "rms_norm_eps": 1e-5,
    "use_bias": False,
    "tie_word_embeddings": True,
}

# The three axes share the five frequencies of a head.
ROPE = {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [2, 2, 1]}

# A token is 8 x 8 pixels.
TOWER: Mapping[str, object] = {
    "depth": 2,
    "hidden_size": 16,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
}
INNER = 48  # within the tower's feed-forward; Baidu states what multiple of the width it is

PROCESSOR = {"patch_size": 4, "merge_size": 2, "size": {"shortest_edge": 4 * 64, "longest_edge": 40 * 64}}

PLACEHOLDER = "<|IMAGE_PLACEHOLDER|>"
BAIDUS_PLACEHOLDER = "<|image@placeholder|>"  # in its templates; no token
MARKS = ["<|IMAGE_START|>", "<|IMAGE_END|>", "<|VIDEO_START|>", "<|VIDEO_END|>", "<|VIDEO_PLACEHOLDER|>"]

# As the family's own, but that a picture of an assistant is not left out.
TEMPLATE = (
    "{%- set count = namespace(value=0) -%}"
    "{{- '<|begin_of_sentence|>' }}"
    "{%- for message in messages -%}"
    "{{- {'user': 'User: ', 'assistant': '\nAssistant: '}.get(message.role, '') }}"
    "{%- if message.content is string -%}{{- message.content -}}{%- else -%}"
    "{%- for part in message.content -%}{%- if part.type == 'text' -%}{{- part.text -}}"
    "{%- elif part.type in ['image_url', 'image'] -%}{%- set count.value = count.value + 1 -%}"
    "Picture {{ count.value }}:<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- if message.role == 'assistant' -%}{{- '<|end_of_sentence|>' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '\nAssistant: ' -}}{%- endif -%}"
)

# What FastDeploy's page sends.
OF_FASTDEPLOY = [
    {"role": "user", "content": [{"type": "image", "image": "odd.png"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "图里有几个人"}]},
]


def new_model(
    vocabulary: int, ids: Mapping[str, int], longest: int = LONGEST
) -> transformers.Ernie4_5_VLMoeForConditionalGeneration:
    """A model with spread weights; the bias of the routers changes the choice of experts only."""
    config = transformers.Ernie4_5_VLMoeConfig(
        text_config=SIZES
        | {
            "max_position_embeddings": longest,
            "vocab_size": vocabulary,
            "moe_num_experts": EXPERTS,
            "rope_parameters": ROPE,
        },
        vision_config={**TOWER, "intermediate_size": INNER, "temporal_merge_size": 2},
        **ids,
    )
    model = transformers.Ernie4_5_VLMoeForConditionalGeneration(config).eval()
    model.set_experts_implementation("eager")  # the others want sizes in multiples of four
    spread_weights(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("e_score_correction_bias"):
                bias = torch.tensor([[0.3, -0.2, 0.1, 0.0, -0.1]])
                parameter.copy_(bias if "text_moe" in name else -bias)
            if name.endswith(".ln.weight"):
                parameter.add_(1)
    return model


def ids_of_text(vocabulary: int) -> dict[str, int]:
    """One token that stands for everything that is not text, which no text of a golden has."""
    return {f"{kind}_{part}token_id": vocabulary - 1 for kind in ("image", "video") for part in ("", "start_", "end_")}


def ids_of_images(tokenizer: tokenizers.Tokenizer) -> dict[str, int]:
    """The ids of the tokens that stand for images, or before or after one."""
    names = ("image_start", "image_end", "video_start", "video_end", "video")
    found = {f"{name}_token_id": tokenizer.token_to_id(mark) for name, mark in zip(names, MARKS, strict=True)}
    return {"image_token_id": tokenizer.token_to_id(PLACEHOLDER)} | found


def make_ernie_vl() -> None:
    """As transformers writes it, embedding text."""
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>", "<|image|>"])
    vocabulary = tokenizer.get_vocab_size()
    model = new_model(vocabulary, ids_of_text(vocabulary))
    save("ernie-vl", model, tokenizer)
    write_processor(FAMILIES / "ernie-vl")
    expect("ernie-vl", texts_for(tokenizer), last_normalized(model.model))


def make_ernie_vl_reward() -> None:
    """As Baidu writes it, scoring text."""
    name = "ernie-vl-reward"
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>", "<|image|>"], "<s> $A")
    vocabulary = tokenizer.get_vocab_size()
    model = new_model(vocabulary, ids_of_text(vocabulary))
    directory = FAMILIES / name
    reward = save_as_baidu(directory, model, {"im_patch_id": vocabulary - 1})
    save_tokenizer(directory, tokenizer)
    write_processor(directory)
    expect(name, texts_for(tokenizer), lambda inputs: reward(hidden_states(model.model, inputs)))


def make_with_images() -> None:
    """Both with images: as transformers writes it, embedding, and as Baidu does, scoring."""
    tokenizer = vision_tokenizer(["<unk>", "<|begin_of_sentence|>", "<|end_of_sentence|>", PLACEHOLDER, *MARKS])
    ids = ids_of_images(tokenizer)
    model = new_model(tokenizer.get_vocab_size(), ids, LONGEST_WITH_IMAGES)
    save_vision("ernie-vl", model, tokenizer, TEMPLATE)
    write_processor(IMAGE_GOLDENS / "ernie-vl")

    name = "ernie-vl-reward"
    baidus = {name: number for name, number in ids.items() if name != "image_token_id"}
    baidus |= {"im_patch_id": ids["image_token_id"], "max_position_embeddings": LONGEST_WITH_IMAGES}
    reward = save_as_baidu(IMAGE_GOLDENS / name, model, baidus)
    save_texts(IMAGE_GOLDENS / name, tokenizer, TEMPLATE)
    write_processor(IMAGE_GOLDENS / name)

    def of_images(given: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {"moe_mm_token_type_ids": torch.isin(given, torch.tensor(list(ids.values()))).int()}

    processor = Ernie4_5_VLMoeImageProcessorPil(**PROCESSOR)
    asked = [*conversations(), OF_FASTDEPLOY]
    expect_conversations("ernie-vl", model.model, processor, PLACEHOLDER, asked, inputs_of=of_images)
    expect_conversations(name, model.model, processor, PLACEHOLDER, asked, reward, of_images)
    baidus_template = TEMPLATE.replace(PLACEHOLDER, BAIDUS_PLACEHOLDER)
    (IMAGE_GOLDENS / name / "chat_template.jinja").write_text(baidus_template, "utf-8")


def write_processor(directory: Path) -> None:
    """Write how images become patches."""
    write_json(
        directory / "preprocessor_config.json", {"image_processor_type": "Ernie4_5_VLMoeImageProcessor"} | PROCESSOR
    )


def save_as_baidu(
    directory: Path, model: transformers.Ernie4_5_VLMoeForConditionalGeneration, more: Mapping[str, object]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Write a model with a reward head: flat numbers, one for text and one for images, tensors under Baidu's own names.

    Args:
        more: what config.json has beside, the ids of tokens.

    Returns:
        The head, from hidden states [n, hidden] to the reward [1, 1].
    """
    text = model.config.text_config
    hidden = text.hidden_size
    generator = torch.Generator().manual_seed(13)
    up_gate = torch.randn(2 * hidden, hidden, generator=generator) * 1.5 / hidden**0.5
    down = torch.randn(1, hidden, generator=generator) * 1.5 / hidden**0.5
    tensors = baidus_tensors(model.model)
    assert_read_by_transformers(tensors, model)
    tensors |= {"rm_head.up_gate_proj.weight": up_gate, "rm_head.down_proj.weight": down}
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    safetensors.torch.save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)
    config = SIZES | {
        "architectures": ["Ernie4_5_VLMoeForProcessRewardModel"],
        "model_type": "ernie4_5_moe_vl",
        "hidden_act": "silu",
        "vocab_size": text.vocab_size,
        "moe_num_experts": [EXPERTS, EXPERTS],
        "moe_layer_start_index": [1, 1],
        "moe_layer_end_index": [4, 3],
        "moe_layer_interval": 1,
        "rope_3d": True,
        "rope_theta": ROPE["rope_theta"],
        "freq_allocation": 1,  # the frequencies of time
        "spatial_conv_size": 2,
        "temporal_conv_size": 2,
        "vision_config": {**TOWER, "mlp_ratio": INNER // 16},
    }
    write_json(directory / "config.json", config | more)

    def reward(states: torch.Tensor) -> torch.Tensor:
        gate, up = (states[-1:] @ up_gate.T).chunk(2, dim=-1)
        return (torch.nn.functional.silu(gate) * up) @ down.T

    return reward


def baidus_tensors(model: transformers.Ernie4_5_VLMoeModel) -> dict[str, torch.Tensor]:
    """The tensors of a model under Baidu's names: experts one by one, those for text first, routers transposed."""
    tensors: dict[str, torch.Tensor] = {}
    state = model.state_dict()
    for name, tensor in state.items():
        plain = name.replace("vision_tower.", "vision_model.").replace("language_model.", "model.")
        plain = plain.replace("resampler_model.", "model.resampler_model.")
        for ours, theirs in (("fc1", "0"), ("fc2", "2"), ("ln", "3")):
            plain = re.sub(rf"(spatial|temporal)_linear\.{ours}\.", rf"\1_linear.{theirs}.", plain)
        mixture = re.fullmatch(r"(.*\.mlp)\.(text|vision)_moe\.(.*)", plain)
        if mixture is None:
            tensors[plain] = tensor.contiguous()
            continue
        prefix, part = mixture[1], mixture[3]
        first = EXPERTS if mixture[2] == "vision" else 0
        if part == "gate.weight":
            tensors[f"{prefix}.gate.weight{'_1' if first else ''}"] = tensor.T.contiguous()
        elif part == "gate.moe_statics.e_score_correction_bias":
            if not first:
                biases = [tensor, state[name.replace("text_moe", "vision_moe")]]
                tensors[f"{prefix}.moe_statics.e_score_correction_bias"] = torch.cat(biases)
        else:
            for number, expert in enumerate(tensor, start=first):
                tensors |= one_expert(f"{prefix}.experts.{number}", part.removeprefix("experts."), expert)
    return tensors


def one_expert(prefix: str, part: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tensors of one expert's `gate_up_proj` or `down_proj`."""
    if part == "down_proj":
        return {f"{prefix}.down_proj.weight": tensor.contiguous()}
    gate, up = tensor.chunk(2)
    return {f"{prefix}.gate_proj.weight": gate.contiguous(), f"{prefix}.up_proj.weight": up.contiguous()}


def assert_read_by_transformers(
    tensors: Mapping[str, torch.Tensor], model: transformers.Ernie4_5_VLMoeForConditionalGeneration
) -> None:
    """That transformers makes of these tensors the model that they were taken from."""
    directory = Path(FAMILIES / "ernie-vl-read-again")
    try:
        model.config.save_pretrained(directory)
        safetensors.torch.save_file(dict(tensors), directory / "model.safetensors", {"format": "pt"})
        again, found = transformers.Ernie4_5_VLMoeModel.from_pretrained(directory, output_loading_info=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    assert not found["missing_keys"], found
    assert not found["unexpected_keys"], found
    read = again.state_dict()
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(tensor, read[name]), name


if __name__ == "__main__":
    make_ernie_vl()
    make_ernie_vl_reward()
    make_with_images()

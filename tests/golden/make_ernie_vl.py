"""Makes the goldens of ERNIE 4.5 VL on text: as transformers writes it, and as Baidu does, with a reward head.

python -m tests.golden.make_ernie_vl
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
import transformers

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

VISION = {
    "depth": 1,
    "hidden_size": 8,
    "num_heads": 2,
    "patch_size": 2,
    "intermediate_size": 12,
    "spatial_merge_size": 1,
    "temporal_merge_size": 1,
}


def new_model(vocabulary: int) -> transformers.Ernie4_5_VLMoeForConditionalGeneration:
    """A model with spread weights; the bias of the routers changes the choice of experts only."""
    images = {
        f"{kind}_{part}token_id": vocabulary - 1 for kind in ("image", "video") for part in ("", "start_", "end_")
    }
    config = transformers.Ernie4_5_VLMoeConfig(
        text_config=SIZES | {"vocab_size": vocabulary, "moe_num_experts": EXPERTS, "rope_parameters": ROPE},
        vision_config=VISION,
        **images,
    )
    model = transformers.Ernie4_5_VLMoeForConditionalGeneration(config).eval()
    model.set_experts_implementation("eager")  # the others want sizes in multiples of four
    spread_weights(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("e_score_correction_bias"):
                bias = torch.tensor([[0.3, -0.2, 0.1, 0.0, -0.1]])
                parameter.copy_(bias if "text_moe" in name else -bias)
    return model


def make_ernie_vl() -> None:
    """As transformers writes it, embedding text."""
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>", "<|image|>"])
    model = new_model(tokenizer.get_vocab_size())
    save("ernie-vl", model, tokenizer)
    expect("ernie-vl", texts_for(tokenizer), last_normalized(model.model))


def make_ernie_vl_reward() -> None:
    """As Baidu writes it: flat numbers, one for text and one for images, and the tensors under its own names."""
    name = "ernie-vl-reward"
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>", "<|image|>"], "<s> $A")
    model = new_model(tokenizer.get_vocab_size())
    hidden = model.config.text_config.hidden_size
    generator = torch.Generator().manual_seed(13)
    up_gate = torch.randn(2 * hidden, hidden, generator=generator) * 1.5 / hidden**0.5
    down = torch.randn(1, hidden, generator=generator) * 1.5 / hidden**0.5
    tensors = baidus_tensors(model.model)
    assert_read_by_transformers(tensors, model)
    tensors |= {"rm_head.up_gate_proj.weight": up_gate, "rm_head.down_proj.weight": down}
    directory = FAMILIES / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    safetensors.torch.save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)
    save_tokenizer(directory, tokenizer)
    write_json(
        directory / "config.json",
        SIZES
        | {
            "architectures": ["Ernie4_5_VLMoeForProcessRewardModel"],
            "model_type": "ernie4_5_moe_vl",
            "hidden_act": "silu",
            "vocab_size": tokenizer.get_vocab_size(),
            "moe_num_experts": [EXPERTS, EXPERTS],
            "moe_layer_start_index": [1, 1],
            "moe_layer_end_index": [4, 3],
            "moe_layer_interval": 1,
            "rope_3d": True,
            "rope_theta": ROPE["rope_theta"],
            "vision_config": VISION,
        },
    )

    def reward(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        gate, up = (hidden_states(model.model, inputs)[-1:] @ up_gate.T).chunk(2, dim=-1)
        return (torch.nn.functional.silu(gate) * up) @ down.T

    expect(name, texts_for(tokenizer), reward)


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

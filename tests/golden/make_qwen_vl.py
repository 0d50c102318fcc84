"""Makes the goldens of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: tiny checkpoints, and what they make of images in talk.

python -m tests.golden.make_qwen_vl
"""

from collections.abc import Mapping

import transformers
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.golden.reference import spread_weights, write_json
from tests.golden.vision import VISION, conversations, expect_conversations, save_vision, vision_tokenizer

PLACEHOLDER = "<|image_pad|>"
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    PLACEHOLDER,
    "<|video_pad|>",
]

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# A token is 8 x 8 pixels.
PROCESSOR = {
    "size": {"shortest_edge": 4 * 64, "longest_edge": 40 * 64},
    "patch_size": 4,
    "temporal_patch_size": 2,
    "merge_size": 2,
}

TEXT: Mapping[str, object] = {
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def ids_of(tokenizer: object) -> dict[str, int]:
    """The ids that a configuration names."""
    names = {
        "image_token_id": PLACEHOLDER,
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tokenizer.token_to_id(token) for name, token in names.items()}  # type: ignore[attr-defined]


def make(name: str, config: type, model: type, text: Mapping[str, object], vision: Mapping[str, object]) -> None:
    """One family's checkpoint and what transformers makes of conversations."""
    tokenizer = vision_tokenizer(SPECIAL)
    built = config(
        text_config={**TEXT, "vocab_size": tokenizer.get_vocab_size(), **text},
        vision_config={"patch_size": 4, "temporal_patch_size": 2, "spatial_merge_size": 2, **vision},
        **ids_of(tokenizer),
    )
    whole = model(built).eval()
    spread_weights(whole)
    save_vision(name, whole, tokenizer, TEMPLATE)
    write_json(
        VISION / name / "preprocessor_config.json", {"image_processor_type": "Qwen2VLImageProcessor", **PROCESSOR}
    )
    processor = Qwen2VLImageProcessorPil(**PROCESSOR)
    expect_conversations(name, whole.model, processor, PLACEHOLDER, conversations())


def main() -> None:
    """All three."""
    make(
        "qwen2-vl",
        transformers.Qwen2VLConfig,
        transformers.Qwen2VLForConditionalGeneration,
        {"rope_parameters": {"rope_type": "default", "rope_theta": 700.0, "mrope_section": [2, 1, 1]}},
        {"depth": 2, "embed_dim": 16, "num_heads": 2, "mlp_ratio": 3, "hidden_size": 32},
    )
    make(
        "qwen2.5-vl",
        transformers.Qwen2_5_VLConfig,
        transformers.Qwen2_5_VLForConditionalGeneration,
        {"rope_parameters": {"rope_type": "default", "rope_theta": 700.0, "mrope_section": [1, 2, 1]}},
        {
            "depth": 3,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 26,
            "out_hidden_size": 32,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        },
    )
    make(
        "qwen3-vl",
        transformers.Qwen3VLConfig,
        transformers.Qwen3VLForConditionalGeneration,
        {
            "head_dim": 12,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 700.0,
                "mrope_section": [2, 2, 2],
                "mrope_interleaved": True,
            },
        },
        {
            "depth": 4,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 26,
            "out_hidden_size": 32,
            "num_position_embeddings": 25,
            "deepstack_visual_indexes": [0, 2],
        },
    )


if __name__ == "__main__":
    main()

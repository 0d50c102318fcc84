"""What the scripts share that make goldens of models with images: images, conversations about them, the writing.

A golden is a checkpoint in `vision/NAME/`, and `vision/NAME.expected.json`: conversations whose image parts name files
of `vision/images/`, the token ids of each, and the rows that transformers gives in float32.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from PIL import Image

from tests.golden.reference import byte_level, digits, normalized, save_tokenizer, write_json

VISION = Path(__file__).parent / "vision"
IMAGES = VISION / "images"

# Width and height in pixels: odd, tall, wide, tiny.
SIZES = {"square": (40, 40), "odd": (37, 53), "wide": (101, 17), "tall": (9, 71), "tiny": (5, 4)}

LONGEST = 256


def make_images() -> None:
    """Coloured gradients with noise, so that a patch in a wrong place shows."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        generator = np.random.default_rng(number)
        down, across = np.mgrid[0:height, 0:width]
        colours = np.stack(
            [255 * down / height, 255 * across / width, 255 * (down + across) / (height + width)], axis=-1
        )
        noisy = colours + generator.normal(0, 40, colours.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(IMAGES / f"{name}.png", optimize=True)


def conversations() -> list[list[dict[str, Any]]]:
    """Text alone, one image, three of odd sizes, an image in the first and in the last turn, the same image twice."""

    def image(name: str) -> dict[str, str]:
        return {"type": "image", "image": f"{name}.png"}

    def text(words: str) -> dict[str, str]:
        return {"type": "text", "text": words}

    return [
        [{"role": "user", "content": "The mill pond stores water."}],
        [{"role": "user", "content": [image("square"), text("how many ducks are there")]}],
        [{"role": "user", "content": [image("odd"), text("a"), image("wide"), image("tall"), text("图里有几个人")]}],
        [
            {"role": "user", "content": [text("look"), image("odd")]},
            {"role": "assistant", "content": "a mill"},
            {"role": "user", "content": "and the river?"},
        ],
        [
            {"role": "user", "content": "where does the water come from"},
            {"role": "assistant", "content": [text("from here"), image("tall")]},
        ],
        [{"role": "user", "content": [image("tiny"), image("square"), image("tiny")]}],
    ]


def vision_tokenizer(special: Sequence[str]) -> tokenizers.Tokenizer:
    """Byte pairs with a family's special tokens."""
    return byte_level(special)


def save_vision(name: str, model: transformers.PreTrainedModel, tokenizer: tokenizers.Tokenizer, template: str) -> None:
    """Write a checkpoint, its tokenizer and its chat template to vision/NAME; and the images."""
    make_images()
    directory = VISION / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    model.save_pretrained(directory)
    save_texts(directory, tokenizer, template)


def save_texts(directory: Path, tokenizer: tokenizers.Tokenizer, template: str) -> None:
    """Write the tokenizer and the chat template beside a checkpoint's weights."""
    for weights in directory.glob("*.safetensors"):
        weights.chmod(0o644)
    save_tokenizer(directory, tokenizer, model_max_length=LONGEST, eos_token="<|im_end|>")
    (directory / "chat_template.jinja").write_text(template, "utf-8")


def last_at_length_one(hidden: torch.Tensor) -> torch.Tensor:
    """The last token's hidden state at length 1: how a bare decoder embeds."""
    return normalized(hidden[-1:])


def expect_conversations(
    name: str,
    model: torch.nn.Module,
    processor: Any,
    placeholder: str,
    asked: Sequence[list[dict[str, Any]]],
    rows_of: Callable[[torch.Tensor], torch.Tensor] = last_at_length_one,
    inputs_of: Callable[[torch.Tensor], Mapping[str, torch.Tensor]] = lambda ids: {},
) -> None:
    """Write vision/NAME.expected.json: what becomes of the hidden states that the bare model gives.

    Args:
        rows_of: from hidden states [n, hidden] to the rows of a result.
        inputs_of: what else the model takes, made of token ids [1, n].
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(VISION / name)
    placeholder_id = tokenizer.convert_tokens_to_ids(placeholder)
    rows = []
    for messages in asked:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        names = [
            part["image"]
            for each in messages
            if isinstance(each["content"], list)
            for part in each["content"]
            if "image" in part
        ]
        inputs: dict[str, torch.Tensor] = {}
        counts = []
        if names:
            found = processor([Image.open(IMAGES / each).convert("RGB") for each in names], return_tensors="pt")
            inputs = {"pixel_values": found["pixel_values"], "image_grid_thw": found["image_grid_thw"]}
            counts = [int(grid.prod()) // processor.merge_size**2 for grid in found["image_grid_thw"]]
        pieces = text.split(placeholder)
        assert len(pieces) == len(names) + 1, text
        text = "".join(piece + placeholder * count for piece, count in zip(pieces, [*counts, 0], strict=True))
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        types = (ids == placeholder_id).int()
        if names:
            inputs["mm_token_type_ids"] = types
        with torch.no_grad():
            model.rope_deltas = None
            hidden = model(input_ids=ids, **inputs, **inputs_of(ids)).last_hidden_state[0]
            found_rows = [digits(row) for row in rows_of(hidden)]
        rows.append({"messages": messages, "ids": ids[0].tolist(), "rows": found_rows})
    write_json(VISION / f"{name}.expected.json", {"inputs": rows})
    print(name, [len(row["ids"]) for row in rows], json.dumps(rows[0]["ids"])[:60])

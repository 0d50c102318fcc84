"""Vision towers of Hugging Face's models on torch, in an environment of their own.

    vision_peer.py make FAMILY DIRECTORY                   writes a checkpoint: a tower of 8 layers, 640 wide
    vision_peer.py run DIRECTORY PATCHES ATTENTION ROWS    for each line on standard input one pass; prints its seconds

PATCHES is an .npz file with `patches`, float32 [patches, numbers of a patch], and `grids`, int64 [images, 3]. ROWS is
an .npy file that is written with what the tower makes of them.
"""

import sys
import time

import numpy as np
import torch
import transformers

WIDTH = 640
TEXT = {
    "hidden_size": 512,
    "intermediate_size": 512,
    "num_hidden_layers": 1,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
IDS = {"image_token_id": 10, "video_token_id": 11, "vision_start_token_id": 12, "vision_end_token_id": 13}


def rope(**more: object) -> dict[str, object]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12], **more}}


CONFIGS = {
    "qwen2-vl": lambda: transformers.Qwen2VLConfig(
        text_config={**TEXT, **rope()},
        vision_config={"depth": 8, "embed_dim": WIDTH, "num_heads": 8, "hidden_size": 512},
        **IDS,
    ),
    "qwen2.5-vl": lambda: transformers.Qwen2_5_VLConfig(
        text_config={**TEXT, **rope()},
        vision_config={
            "depth": 8,
            "hidden_size": WIDTH,
            "num_heads": 8,
            "intermediate_size": 1720,
            "out_hidden_size": 512,
            "fullatt_block_indexes": [3, 7],
        },
        **IDS,
    ),
    "qwen3-vl": lambda: transformers.Qwen3VLConfig(
        text_config={**TEXT, "head_dim": 64, **rope(mrope_interleaved=True)},
        vision_config={
            "depth": 8,
            "hidden_size": WIDTH,
            "num_heads": 8,
            "intermediate_size": 2400,
            "out_hidden_size": 512,
            "deepstack_visual_indexes": [2, 4, 6],
        },
        **IDS,
    ),
}


def make(family: str, directory: str) -> None:
    """A checkpoint of random weights, as transformers initialises them."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(CONFIGS[family]()).save_pretrained(directory)


def run(directory: str, patches_file: str, attention: str, rows_file: str) -> None:
    """Serves passes until standard input ends."""
    given = np.load(patches_file)
    patches, grids = torch.from_numpy(given["patches"]), torch.from_numpy(given["grids"])
    model = transformers.AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation=attention).eval()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        with torch.inference_mode():
            rows = model.visual(patches, grid_thw=grids).pooler_output
        print(time.perf_counter() - began, flush=True)
        np.save(rows_file, rows.numpy())


if __name__ == "__main__":
    {"make": make, "run": run}[sys.argv[1]](*sys.argv[2:])

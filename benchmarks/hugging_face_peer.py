"""Hugging Face's own models on torch, in an environment of their own: makes random checkpoints, and computes with them.

    hugging_face_peer.py make FAMILY DIRECTORY      writes a checkpoint of 12 layers, 768 wide
    hugging_face_peer.py run DIRECTORY BATCHES      for each line on standard input one pass; prints its seconds

BATCHES is a JSON file of batches, each a list of lists of token ids. A batch is padded to its longest sequence.
"""

import json
import sys
import time

import torch
import transformers

VOCABULARY = 20_000
ENCODER = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
DECODER = ENCODER | {"intermediate_size": 2048, "num_key_value_heads": 4, "max_position_embeddings": 1024}
HEAD = {"head_dim": 64}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**ENCODER),
    "roberta": lambda: transformers.RobertaConfig(**ENCODER),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**ENCODER),
    "distilbert": lambda: transformers.DistilBertConfig(dim=768, n_layers=12, n_heads=12, hidden_dim=3072),
    "mpnet": lambda: transformers.MPNetConfig(**ENCODER),
    "modernbert": lambda: transformers.ModernBertConfig(**(ENCODER | {"intermediate_size": 1152})),
    "llama": lambda: transformers.LlamaConfig(**DECODER, **HEAD),
    "mistral": lambda: transformers.MistralConfig(**DECODER, **HEAD, sliding_window=128),
    "qwen2": lambda: transformers.Qwen2Config(**DECODER),
    "qwen3": lambda: transformers.Qwen3Config(**DECODER, **HEAD),
    "gemma3": lambda: transformers.Gemma3TextConfig(**DECODER, **HEAD, sliding_window=128),
    "ernie": lambda: transformers.Ernie4_5Config(**DECODER, **HEAD),
    "ernie-moe": lambda: transformers.Ernie4_5_MoeConfig(
        **DECODER, **HEAD, moe_num_experts=8, moe_k=2, moe_intermediate_size=768, moe_num_shared_experts=1
    ),
}


def make(family: str, directory: str) -> None:
    """A checkpoint of random weights, as transformers initialises them."""
    config = CONFIGS[family]()
    config.vocab_size = VOCABULARY
    config.pad_token_id, config.bos_token_id, config.eos_token_id = 0, 1, 2
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(directory)


def run(directory: str, batches_file: str) -> None:
    """Serves passes until standard input ends."""
    with open(batches_file, encoding="utf-8") as file:  # noqa: PTH123 - this environment has no other use for pathlib
        batches = [padded(batch) for batch in json.load(file)]
    model = transformers.AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        with torch.inference_mode():
            for ids, mask in batches:
                model(input_ids=ids, attention_mask=mask)
        print(time.perf_counter() - began, flush=True)


def padded(batch: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of a batch, int64 [sequences, longest]."""
    longest = max(map(len, batch))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
    return ids, mask


if __name__ == "__main__":
    {"make": make, "run": run}[sys.argv[1]](*sys.argv[2:])

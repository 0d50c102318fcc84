"""sentence-transformers with its defaults, in an environment of its own: encodes a file of texts whenever told to.

Each line on standard input is a path of a .npy file to write the vectors to; each line on standard output is the
seconds that encoding took. The first line on standard output is the number of tokens, after truncation.
"""

import json
import sys
import time

import numpy as np
from sentence_transformers import SentenceTransformer


def main() -> None:
    """Serves until standard input ends."""
    model_directory, texts_file = sys.argv[1:]
    with open(texts_file, encoding="utf-8") as file:  # noqa: PTH123 - this environment has no other use for pathlib
        texts = json.load(file)
    model = SentenceTransformer(model_directory, device="cpu")
    print(sum(len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=256)["input_ids"]), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        vectors = model.encode(texts)
        seconds = time.perf_counter() - began
        np.save(line.strip(), vectors)
        print(seconds, flush=True)


if __name__ == "__main__":
    main()

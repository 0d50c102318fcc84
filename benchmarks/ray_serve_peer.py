"""sentence-transformers behind a Ray Serve deployment with `@serve.batch`, in an environment of its own.

    .venv-ray/bin/python benchmarks/ray_serve_peer.py MODEL PORT

`POST /embeddings` with `{"input": [texts]}` answers as OpenAI does. One replica with all cores; a text is one element
of a batch of at most 64, for which it waits for 10 ms at most.
"""

import asyncio
import sys
import time

import ray
from ray import serve
from sentence_transformers import SentenceTransformer
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=1_000)
class Embedder:
    """One replica."""

    def __init__(self, model_directory: str) -> None:
        self._model = SentenceTransformer(model_directory, device="cpu")

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.01)
    async def embed(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text of a batch."""
        return (await asyncio.to_thread(self._model.encode, texts)).tolist()

    async def __call__(self, request: Request) -> dict[str, object]:
        """A call's texts, each in whatever batch it comes."""
        texts = (await request.json())["input"]
        vectors = await asyncio.gather(*(self.embed(text) for text in texts))
        return {"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]}


def main() -> None:
    """Serves until it is ended."""
    model_directory, port = sys.argv[1:]
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(Embedder.bind(model_directory), route_prefix="/embeddings")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()

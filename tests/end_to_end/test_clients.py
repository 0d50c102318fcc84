"""The clients that users bring work unmodified: each runs in an environment of its own, against a real server."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.variants import made
from tests.server import GOLDEN, TINY_BERT, Millpond, serving

ROOT = Path(__file__).parents[2]
FAMILIES = GOLDEN / "families"

# No client is to ask the internet for anything: LiteLLM for its prices, LangChain and Hugging Face for telemetry.
ON_THIS_MACHINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NO_PROXY": "127.0.0.1",
}

# Its positions are computed, not learned: it takes the whole documents of Jina's example.
RERANKER = {
    "from": "families/modernbert-cross-encoder",
    "changes": {"config.json": {"max_position_embeddings": 4096}, "tokenizer_config.json": {"model_max_length": 4096}},
    "files": {},
}


@pytest.fixture(scope="module")
def embedder() -> Iterator[Millpond]:
    with serving(model=TINY_BERT) as server:
        yield server


@pytest.fixture(scope="module")
def classifier() -> Iterator[Millpond]:
    """Three labels."""
    with serving(model=FAMILIES / "bert-classifier") as server:
        yield server


@pytest.fixture(scope="module")
def reward() -> Iterator[Millpond]:
    """One label on a decoder."""
    with serving(model=FAMILIES / "llama-classifier") as server:
        yield server


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    with serving(model=made(RERANKER, tmp_path_factory.mktemp("clients") / "reranker")) as server:
        yield server


def run_client(name: str, *arguments: str, environment: str = ".venv-clients") -> None:
    """Runs tests/clients/NAME.py to its end, in its environment; fails with all that it says."""
    python = ROOT / environment / "bin" / "python"
    if not (ROOT / environment / "installed").exists():
        pytest.fail(f"the clients are not installed: make {environment}/installed")
    command = [str(python), "-m", f"tests.clients.{name}", *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **ON_THIS_MACHINE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{name} failed:\n{done.stdout}"
    assert done.stdout.endswith("all checks passed\n"), done.stdout


@pytest.mark.parametrize(
    "client",
    ["with_openai", "with_langchain", "with_llama_index", "with_litellm", "with_cohere_embed", "with_huggingface"],
)
def test_a_client_gets_embeddings(embedder: Millpond, client: str) -> None:
    run_client(client, embedder.url, "tiny-bert")


@pytest.mark.parametrize("client", ["with_cohere_rerank", "with_litellm_rerank"])
def test_a_client_ranks_documents(reranker: Millpond, client: str) -> None:
    run_client(client, reranker.url, "reranker")


def test_hugging_faces_client_classifies_texts(classifier: Millpond) -> None:
    run_client("with_huggingface_classifier", classifier.url, "bert-classifier")


def test_openrlhf_gets_its_rewards(reward: Millpond) -> None:
    run_client("with_openrlhf", reward.url, str(FAMILIES / "llama-classifier"))


@pytest.mark.mteb
def test_mteb_evaluates_the_served_models() -> None:
    name = ["--served-model-name", "made/model"]
    with (
        serving(*name, model=TINY_BERT) as embedder,
        serving(*name, model=FAMILIES / "bert-cross-encoder") as reranker,
    ):
        run_client("with_mteb", f"{embedder.url},{reranker.url}", "made/model", environment=".venv-mteb")


def curl(server: Millpond, command: str) -> Any:
    """Runs a command as a document prints it, but for the address; the reply's JSON."""
    assert "ADDRESS" in command
    asked = command.replace("ADDRESS", server.url)
    done = subprocess.run(["bash", "-c", f"{asked} --silent --show-error"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_teis_example_of_an_embedding(embedder: Millpond) -> None:
    (vector,) = curl(
        embedder,
        """curl ADDRESS/embed \\
    -X POST \\
    -d '{"inputs":"What is Deep Learning?"}' \\
    -H 'Content-Type: application/json'""",
    )
    reply = curl(
        embedder,
        """curl ADDRESS/v1/embeddings -X POST -d '{"input":"What is Deep Learning?"}' \\
    -H 'Content-Type: application/json'""",
    )
    assert len(vector) == 48
    assert_close(vector, reply["data"][0]["embedding"])


def test_teis_example_of_a_batch_is_a_list_of_vectors(embedder: Millpond) -> None:
    vectors = curl(
        embedder,
        """curl ADDRESS/embed \\
    -X POST \\
    -d '{"inputs":["Today is a nice day", "I like you"]}' \\
    -H 'Content-Type: application/json'""",
    )
    assert [len(vector) for vector in vectors] == [48, 48]


def test_teis_example_of_reranking(reranker: Millpond) -> None:
    ranks = curl(
        reranker,
        """curl ADDRESS/rerank \\
    -X POST \\
    -d '{"query":"What is Deep Learning?", "texts": ["Deep Learning is not...", "Deep learning is..."]}' \\
    -H 'Content-Type: application/json'""",
    )
    assert sorted(rank["index"] for rank in ranks) == [0, 1]
    assert ranks[0]["score"] >= ranks[1]["score"]
    assert all(set(rank) == {"index", "score"} for rank in ranks)


def test_teis_example_of_a_prediction(classifier: Millpond) -> None:
    predicted = curl(
        classifier,
        """curl ADDRESS/predict \\
    -X POST \\
    -d '{"inputs":"I like you."}' \\
    -H 'Content-Type: application/json'""",
    )
    assert {each["label"] for each in predicted} == {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert_close([sum(each["score"] for each in predicted)], [1.0])


JINA_DOCUMENTS = [
    "Organic skincare for sensitive skin with aloe vera and chamomile: Imagine the soothing embrace of nature.",
    "New makeup trends focus on bold colors and innovative techniques: Step into the world of cutting-edge beauty.",
    "Bio-Hautpflege für empfindliche Haut mit Aloe Vera und Kamille: Erleben Sie die wohltuende Wirkung.",
    "Neue Make-up-Trends setzen auf kräftige Farben und innovative Techniken: Tauchen Sie ein in die Welt der Mode.",
    "针对敏感肌专门设计的天然有机护肤产品：体验由芦荟和洋甘菊提取物带来的自然呵护。",
]


def test_jinas_example_of_reranking(reranker: Millpond) -> None:
    documents = json.dumps(JINA_DOCUMENTS, ensure_ascii=False)
    reply = curl(
        reranker,
        f"""curl ADDRESS/v1/rerank \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer jina_" \\
  --data-binary '{{
    "model": "reranker",
    "query": "Organic skincare products for sensitive skin",
    "top_n": 3,
    "documents": {documents},
    "return_documents": true
  }}'""",
    )
    results = reply["results"]
    assert len(results) == 3
    scores = [each["relevance_score"] for each in results]
    assert scores == sorted(scores, reverse=True)
    assert all(each["document"]["text"] == JINA_DOCUMENTS[each["index"]] for each in results)
    assert reply["model"] == "reranker" and reply["usage"]["total_tokens"] > 0


def assert_close(found: Sequence[float], wanted: Sequence[float]) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)

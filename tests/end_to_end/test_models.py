"""Other kinds of models than the default, served the whole way."""

import json

import numpy as np
import pytest

from tests.server import GOLDEN, client_of, serving

FAMILIES = GOLDEN / "families"


def test_a_decoder_embeds_as_the_reference_does() -> None:
    known = json.loads((FAMILIES / "qwen3.expected.json").read_text("utf-8"))["inputs"]
    with serving(model=FAMILIES / "qwen3") as server, client_of(server) as client:
        reply = client.post("/v1/embeddings", json={"input": [each["text"] for each in known]})
        assert reply.status_code == 200
        for row, each in zip(reply.json()["data"], known, strict=True):
            np.testing.assert_allclose(row["embedding"], each["rows"][0], rtol=0, atol=1e-5)
        assert reply.json()["usage"]["prompt_tokens"] == sum(len(each["ids"]) for each in known)


@pytest.mark.parametrize("name", ["llama-classifier", "bert-classifier"])
def test_scores_are_not_given_for_embeddings(name: str) -> None:
    with serving(model=FAMILIES / name) as server, client_of(server) as client:
        reply = client.post("/v1/embeddings", json={"input": "water"})
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "model"
        assert "not for embed" in reply.json()["error"]["message"]
        assert client.get("/ready").status_code == 200

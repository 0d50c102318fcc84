"""Hugging Face's InferenceClient with TEI's routes for classifiers: at its root and by name."""

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.clients.plain import post, run

TEXT = "the mill pond stores water"


def main(url: str, model: str) -> None:
    predicted = post(url, "/predict", {"inputs": TEXT})
    labels = {each["label"]: each["score"] for each in predicted}
    assert len(labels) == 3 and abs(sum(labels.values()) - 1) < 1e-5
    assert [each["score"] for each in predicted] == sorted(labels.values(), reverse=True)
    # At the root the client gets the list that it is written for; TEI's own route does not nest it for one text, and
    # the client takes the first of it: the best label.
    every = InferenceClient(model=url).text_classification(TEXT)
    assert [(each.label, each.score) for each in every] == [(each["label"], each["score"]) for each in predicted]
    best = InferenceClient(model=f"{url}/predict").text_classification(TEXT)
    assert (best.label, best.score) == (predicted[0]["label"], predicted[0]["score"])
    try:
        InferenceClient(model=f"{url}/predict").text_classification("water " * 500)
    except HfHubHTTPError as error:
        assert error.response.status_code == 422
        assert error.response.json()["error_type"] == "Validation", error.response.text
    else:
        raise AssertionError("a text that is too long was classified")
    try:
        InferenceClient(model=f"{url}/embed").feature_extraction(TEXT)
    except HfHubHTTPError as error:
        assert error.response.status_code in (400, 424)
    else:
        raise AssertionError("a classifier gave an embedding")


if __name__ == "__main__":
    run(main)

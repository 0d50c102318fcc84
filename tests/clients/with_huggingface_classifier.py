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
    # The client takes the first of a list, as pipelines answer; it says `parameters`, which TEI's own callers do not.
    for address in (url, f"{url}/predict"):
        client = InferenceClient(model=address)
        found = client.text_classification(TEXT)
        assert [(each.label, each.score) for each in found] == [(each["label"], each["score"]) for each in predicted]
        best = client.text_classification(TEXT, top_k=1)
        assert [each.label for each in best] == [predicted[0]["label"]]
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

"""mteb's own wrappers for servers like OpenAI's, each on a task of made data: similarity of texts, and reranking."""

import mteb
import numpy as np
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import OpenAIAPIEncodeWrapper, OpenAIAPIRerankWrapper
from scipy.stats import spearmanr

from tests.clients.plain import DOCUMENTS, QUERY, embeddings, relevance, run

PAIRS = [
    ("the mill pond stores water", "the pond stores water", 5.0),
    ("the mill pond stores water", "a queue of requests waits", 0.5),
    ("rain and snow", "rain", 3.5),
    ("the river arrives", "the river", 4.0),
    ("where is the water", "the mill", 1.0),
    ("a queue", "a queue of requests waits", 3.0),
]


def metadata(name: str, kind: str, score: str) -> TaskMetadata:
    """What mteb wants to know of a task: its data are in this file."""
    return TaskMetadata(
        name=name,
        description="A few made sentences.",
        dataset={"path": "made/here", "revision": "1"},
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
    )


class MadeSTS(AbsTaskSTS):
    """Pairs of texts and how alike they are."""

    metadata = metadata("MadeSTS", "STS", "cosine_spearman")

    def load_data(self, *_: object, **__: object) -> None:
        first, second, scores = zip(*PAIRS, strict=True)
        self.dataset = {"test": Dataset.from_dict({"sentence1": first, "sentence2": second, "score": scores})}
        self.data_loaded = True


class MadeReranking(AbsTaskRetrieval):
    """One query, of whose documents the first is the one to find."""

    metadata = metadata("MadeReranking", "Reranking", "map_at_1000")

    def load_data(self, *_: object, **__: object) -> None:
        names = [f"d{index}" for index in range(len(DOCUMENTS))]
        split = RetrievalSplitData(
            queries=Dataset.from_dict({"id": ["q"], "text": [QUERY]}),
            corpus=Dataset.from_dict({"id": names, "text": DOCUMENTS, "title": [""] * len(names)}),
            relevant_docs={"q": {"d0": 1}},
            top_ranked={"q": names},
        )
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def main(url: str, model: str) -> None:
    embedder, reranker = url.split(",")
    check_similarity(embedder, model)
    check_reranking(reranker, model)


def check_similarity(url: str, model: str) -> None:
    """mteb's score is the one that plain calls give."""
    # By default it sends a list of conversations, which vLLM alone takes; with this, the texts themselves.
    client = OpenAIAPIEncodeWrapper(endpoint_url=url, model_name=model, use_chat_template=False)
    found = mteb.evaluate(client, MadeSTS(), cache=None, show_progress_bar=False).task_results[0].get_score()
    first, second = (embeddings(url, model, [pair[side] for pair in PAIRS]) for side in (0, 1))
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    wanted = spearmanr(cosines, [score for *_, score in PAIRS]).statistic
    assert abs(found - wanted) < 1e-4, (found, wanted)


def check_reranking(url: str, model: str) -> None:
    """The one relevant document counts by the place that plain calls give it."""
    client = OpenAIAPIRerankWrapper(endpoint_url=url, model_name=model)
    found = mteb.evaluate(client, MadeReranking(), cache=None, show_progress_bar=False).task_results[0].get_score()
    order = np.argsort(-np.asarray(relevance(url, model, QUERY, DOCUMENTS))).tolist()
    wanted = 1 / (order.index(0) + 1)
    assert abs(found - wanted) < 1e-4, (found, wanted)


if __name__ == "__main__":
    run(main)

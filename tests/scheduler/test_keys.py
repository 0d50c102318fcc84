"""Keys that are touched together share a hash tag, whatever a model is called."""

import re

import pytest

from scheduler.keys import LANES, BackfillKeys, ModelKeys, backfill_queue, celery_queue


@pytest.mark.parametrize("model", ["m", "org/name", "a{b}c", "模型 ü", "x:y"])
def test_all_keys_of_a_model_share_its_hash_tag(model: str) -> None:
    keys = ModelKeys(model)
    every = [
        *(keys.lane(lane) for lane in LANES),
        keys.request("r"),
        keys.result("r"),
        keys.leases,
        keys.batch("b"),
        keys.claims,
        keys.held,
        keys.leader,
        keys.leader_count,
        keys.workers,
        keys.worker("w"),
        keys.counters,
        keys.dead_letters,
        keys.blob("b"),
        keys.blob_users("b"),
        keys.blobs,
        keys.blob_ends,
        keys.blob_sizes,
    ]
    assert len(set(every)) == len(every)
    tags = {re.fullmatch(r"millpond:\{([^{}]+)\}:.+", key).group(1) for key in every}  # type: ignore[union-attr]
    assert len(tags) == 1


def test_models_do_not_share_keys_or_queues() -> None:
    assert ModelKeys("a").root != ModelKeys("b").root
    assert celery_queue("a") != celery_queue("b")


def test_all_keys_of_a_backfill_share_its_hash_tag_which_no_model_has() -> None:
    keys = BackfillKeys("b")
    every = [keys.settings, keys.chunks, keys.open, keys.leases, keys.tokens, keys.results, keys.totals]
    assert len(set(every)) == len(every)
    assert {re.fullmatch(r"millpond:\{([^{}]+)\}:.+", key).group(1) for key in every} == {"backfill:b"}  # type: ignore[union-attr]
    assert not keys.root.startswith(ModelKeys("backfill:b").root)
    assert backfill_queue("b") != celery_queue("b")

"""`python -m tests.pooling.rank_zero RANKS CHECKPOINT OPTIONS IDS [IMAGES]`: the first rank of a group, for its tests.

Prints the rows of each list of token ids in IDS, as JSON; IMAGES has the paths of each one's images. It is a process of
its own, for a process that joined a group stays in it.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from pooling.config import resolve_spec
from pooling.device import prepare_process
from pooling.model_options import ModelOptions


def main() -> None:
    size, checkpoint = int(sys.argv[1]), Path(sys.argv[2])
    options = ModelOptions(**json.loads(sys.argv[3]))
    prepare_process("cpu", 1)
    import numpy as np

    from pooling.engine import Engine, PoolingInput
    from pooling.pooler_config import PoolingType
    from pooling.ranks import Ranks
    from pooling.vision.images import decoded
    from pooling.vision.processors import read_image_processor

    ranks = Ranks.start(size, checkpoint, options, "cpu", 1)
    engine = Engine.load(resolve_spec(checkpoint, options), "cpu", ranks)
    inputs = [PoolingInput(np.array(ids, dtype=np.int32)) for ids in json.loads(sys.argv[4])]
    processor = read_image_processor(engine.spec)
    if processor is not None and len(sys.argv) > 5:
        for number, paths in enumerate(json.loads(sys.argv[5])):
            images = [processor.prepared(path.encode(), decoded(Path(path).read_bytes()), {}) for path in paths]
            inputs[number] = replace(inputs[number], images=tuple(images))
    rows = engine.forward(inputs)
    again = engine.forward(inputs[::-1])[::-1]
    assert all(np.abs(first - second).max() < 1e-5 for first, second in zip(rows, again, strict=True))
    mixed = [replace(each, pooling_type=kind) for each in inputs for kind in (PoolingType.ALL, PoolingType.LAST)]
    found = engine.forward(mixed)
    for every, last in zip(found[::2], found[1::2], strict=True):
        assert np.abs(every[-1] - last[0]).max() < 1e-5 * max(1.0, float(np.abs(last).max()))
    print("ROWS", json.dumps([each.tolist() for each in rows]))


if __name__ == "__main__":
    main()

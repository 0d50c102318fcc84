"""Where a configuration says nothing of the rotary embedding, the family's own base counts, as in transformers."""

from pathlib import Path

import numpy as np
import pytest

from pooling.models.decoder import DecoderForPooling, DecoderShape
from pooling.models.ernie import ErnieForPooling
from pooling.models.llama import LlamaForPooling
from pooling.settings import Settings


@pytest.mark.parametrize(("family", "base"), [(LlamaForPooling, 10_000.0), (ErnieForPooling, 500_000.0)])
def test_a_silent_configuration_means_the_base_of_the_family(family: type[DecoderForPooling], base: float) -> None:
    numbers = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 8}
    config = Settings(numbers, Path("config.json"))
    rotary = family.kinds(config, DecoderShape.of(config), ["full"])["full"].rotary
    assert rotary is not None
    np.testing.assert_allclose(rotary.inverse_frequencies, [base ** (-place / 8) for place in (0, 2, 4, 6)], rtol=1e-6)

"""From texts to token ids, exactly as the checkpoint's own tokenizer would."""

import os
from collections.abc import Sequence
from typing import Self

# One text takes tens of microseconds: spreading a batch over more threads would only take cores from the worker, and a
# pool of threads does not survive a fork. Set before the import, as it is read once.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import tokenizers
from numpy.typing import NDArray

from pooling.config import ModelSpec
from pooling.errors import CheckpointError

TokenIds = NDArray[np.int32]


class Tokenizer:
    """The tokenizer of one checkpoint; safe to use from several threads at once.

    It neither truncates nor pads by itself: what is too long is for the caller to refuse or to `truncate`.

    Attributes:
        vocab_size: the number of token ids the model knows; valid ids are 0 to vocab_size - 1.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, vocab_size: int, lowercase: bool = False) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.vocab_size = vocab_size
        self._tokenizer = tokenizer
        self._lowercase = lowercase
        self._suffix = _special_suffix(tokenizer)

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> Self:
        """Load the tokenizer.json of a checkpoint.

        Raises:
            CheckpointError: the file is broken, or makes ids that the model has no embedding for.
        """
        path = spec.directory / "tokenizer.json"
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception, whatever is wrong with the file
            raise CheckpointError(f"{path} is not a readable tokenizer ({error}): download it again.") from error
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= spec.vocab_size:
            raise CheckpointError(
                f"{path} makes token ids up to {largest}, but the model's vocab_size is {spec.vocab_size}: use the "
                "tokenizer.json that belongs to these weights."
            )
        return cls(tokenizer, spec.vocab_size, spec.lowercase)

    def encode(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[TokenIds]:
        """The token ids of each text, int32 [n], as `transformers.AutoTokenizer` gives them without truncation."""
        inputs = [text.lower() for text in texts] if self._lowercase else list(texts)
        encodings = self._tokenizer.encode_batch_fast(inputs, add_special_tokens=add_special_tokens)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]

    def truncate(self, ids: TokenIds, limit: int) -> TokenIds:
        """Cut ids to at most `limit`, keeping the special tokens that the tokenizer put at the end.

        This is Hugging Face's right truncation. Ids that do not end with those special tokens are simply cut.
        """
        if len(ids) <= limit:
            return ids
        suffix = self._suffix
        kept = limit - len(suffix)
        if kept > 0 and len(suffix) and np.array_equal(ids[-len(suffix) :], suffix):
            return np.concatenate([ids[:kept], suffix])
        return ids[:limit]


def _special_suffix(tokenizer: tokenizers.Tokenizer) -> TokenIds:
    """The special tokens after the last token of a text, int32, possibly none."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    special = tokenizer.encode("a", add_special_tokens=True)
    # The text's own tokens are those that the post-processor did not add.
    own = [position for position, added in enumerate(special.special_tokens_mask) if not added]
    end = own[-1] + 1 if plain.ids and own else len(special.ids)
    return np.asarray(special.ids[end:], dtype=np.int32)

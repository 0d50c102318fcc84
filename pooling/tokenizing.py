"""From texts to token ids, exactly as the checkpoint's own tokenizer would."""

import os
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

# One text takes tens of microseconds: spreading a batch over more threads would only take cores from the worker, and a
# pool of threads does not survive a fork. Set before the import, as it is read once.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import normalizers

from pooling.checkpoint import read_json
from pooling.config import ModelSpec
from pooling.errors import CheckpointError
from pooling.lengths import TOKENIZER_CONFIG_FILE

TokenIds = NDArray[np.int32]

Side = Literal["left", "right"]
"""Where a text that is too long loses tokens."""

FIRST_CHARACTERS = 8
"""Of a text that is looked at, for each token that fits: English has four or five to a token."""

SURPLUS_TOKENS = 64
"""So many more tokens than fit show that a text is too long, and keep the cut away from those that are used."""

# What SigLIP was trained on has none of these; its tokenizer's class drops them, where tokenizer.json may not.
PUNCTUATION = f"[{re.escape(string.punctuation)}]"

# Those of transformers' classes that models of our families come with and that give token types.
TOKENIZERS_WITH_SEGMENTS = ("BertTokenizer", "BertJapaneseTokenizer")


@dataclass(frozen=True)
class EncodedPair:
    """Two texts as one sequence.

    Attributes:
        ids: int32 [n].
        second_from: the place where the second text begins as another segment, up to the end; None where the model
            knows no segments.
        second: the places of the second text's own tokens, special tokens left out.
    """

    ids: TokenIds
    second_from: int | None
    second: range

    def cut(self, limit: int) -> Self:
        """The pair in at most `limit` tokens, cut at the end of its second text as Hugging Face's "only_second" does.

        Raises:
            ValueError: the second text would lose all its tokens.
        """
        surplus = len(self.ids) - limit
        if surplus <= 0:
            return self
        if surplus >= len(self.second):
            raise ValueError(f"{limit} tokens leave nothing of the second text")
        stop = self.second.stop - surplus
        ids = np.concatenate([self.ids[:stop], self.ids[self.second.stop :]])
        return type(self)(ids, self.second_from, range(self.second.start, stop))


@dataclass(frozen=True)
class Token:
    """A token of a text.

    Attributes:
        text: the part of the text that it stands for; of a special token its name.
        special: whether the tokenizer put it there by itself.
        start, stop: where that part begins and ends, in bytes of UTF-8; None for a special token.
    """

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Tokenizer:
    """The tokenizer of one checkpoint; safe to use from several threads at once.

    It neither truncates nor pads by itself: what is too long is for the caller to refuse or to `truncate`.

    Attributes:
        vocab_size: the number of token ids the model knows; valid ids are 0 to vocab_size - 1.
    """

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, vocab_size: int, lowercase: bool = False, segments: bool = True
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.vocab_size = vocab_size
        self._tokenizer = tokenizer
        self._lowercase = lowercase
        self._segments = segments
        self._prefix, self._suffix = _special_frame(tokenizer)

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
        config = _tokenizer_config(spec)
        _normalize_as_class(tokenizer, config)
        return cls(tokenizer, spec.vocab_size, spec.lowercase, _has_segments(spec, config))

    def encode(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[TokenIds]:
        """The token ids of each text, int32 [n], as `transformers.AutoTokenizer` gives them without truncation."""
        inputs = [text.lower() for text in texts] if self._lowercase else list(texts)
        encodings = self._tokenizer.encode_batch_fast(inputs, add_special_tokens=add_special_tokens)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]

    def encode_rendered(self, texts: Sequence[str], add_special_tokens: bool) -> list[TokenIds]:
        """The token ids of each text that a chat template wrote, int32 [n].

        Special tokens that it begins with are not put twice.
        """
        found = self.encode(texts, add_special_tokens)
        if not add_special_tokens:
            return found
        twice = np.tile(self._prefix, 2)
        return [ids[len(self._prefix) :] if np.array_equal(ids[: len(twice)], twice) else ids for ids in found]

    def tokens(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[Token]]:
        """The tokens of each text with their places in it."""
        inputs = [text.lower() for text in texts] if self._lowercase else list(texts)
        encodings = self._tokenizer.encode_batch(inputs, add_special_tokens=add_special_tokens)
        # A letter may become two in lowercase; places are then those of the lowercased text.
        shown = [text if len(text) == len(given) else given for text, given in zip(texts, inputs, strict=True)]
        return [_tokens(encoding, text) for encoding, text in zip(encodings, shown, strict=True)]

    def beginnings(self, texts: Sequence[str], count: int) -> list[str]:
        """Of each text what its first `count` tokens stand for, special tokens not counted; 1 or more."""
        inputs = [self.shortened(text, count) for text in texts]
        lowered = [text.lower() for text in inputs] if self._lowercase else inputs
        encodings = self._tokenizer.encode_batch(lowered, add_special_tokens=False)
        return [
            text if len(encoding.ids) <= count else given[: encoding.offsets[count - 1][1]]
            for text, given, encoding in zip(texts, lowered, encodings, strict=True)
        ]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """The text that token ids stand for."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        """Each pair of texts as one sequence, with special tokens, as `transformers.AutoTokenizer` gives it."""
        inputs = [(first.lower(), second.lower()) for first, second in pairs] if self._lowercase else list(pairs)
        return [self._pair(encoding) for encoding in self._tokenizer.encode_batch_fast(inputs)]

    def _pair(self, encoding: tokenizers.Encoding) -> EncodedPair:
        kinds, owners = encoding.type_ids, encoding.sequence_ids
        second_from = kinds.index(1) if self._segments and 1 in kinds else None
        # A second text may have no tokens at all.
        begin = owners.index(1) if 1 in owners else len(owners)
        second = range(begin, begin + owners.count(1))
        return EncodedPair(np.asarray(encoding.ids, dtype=np.int32), second_from, second)

    def shortened(self, text: str, limit: int, side: Side = "right") -> str:
        """A text that is far too long, without most of what lies beyond `limit` tokens; any other text as it is.

        Whoever tokenises the result and takes `limit` tokens, or refuses it as too long, does what the whole text would
        have brought, at a cost that does not grow with the text. Tokens depend on the text close by, so what is cut off
        SURPLUS_TOKENS later cannot change them.

        Args:
            side: where tokens would be taken away.
        """
        wanted = limit + SURPLUS_TOKENS
        characters = FIRST_CHARACTERS * wanted
        while characters < len(text):
            piece = text[:characters] if side == "right" else text[-characters:]
            (ids,) = self.encode([piece], add_special_tokens=False)
            if len(ids) > wanted:
                return piece
            # Tokens here are longer than most: a language, or characters that the tokenizer drops.
            characters *= 4
        return text

    def may_shorten(self, text: str, limit: int) -> bool:
        """Whether a text is so long that `shortened` looks at it."""
        return len(text) > FIRST_CHARACTERS * (limit + SURPLUS_TOKENS)

    def framed(self, ids: TokenIds) -> TokenIds:
        """Ids of a text without special tokens, with those that the tokenizer puts around it."""
        return np.concatenate([self._prefix, ids, self._suffix])

    def token(self, token_id: int) -> str | None:
        """How the vocabulary writes a token; None for an id without one."""
        return self._tokenizer.id_to_token(token_id)

    def truncate(self, ids: TokenIds, limit: int, side: Side = "right") -> TokenIds:
        """Cut ids to at most `limit`, keeping the special tokens that the tokenizer put at that end.

        This is Hugging Face's truncation of a framed text. Ids without those special tokens are simply cut.

        Args:
            side: where tokens are taken away.
        """
        if len(ids) <= limit:
            return ids
        if side == "left":
            prefix = self._prefix
            kept = limit - len(prefix)
            if kept > 0 and len(prefix) and np.array_equal(ids[: len(prefix)], prefix):
                return np.concatenate([prefix, ids[-kept:]])
            return ids[-limit:]
        suffix = self._suffix
        kept = limit - len(suffix)
        if kept > 0 and len(suffix) and np.array_equal(ids[-len(suffix) :], suffix):
            return np.concatenate([ids[:kept], suffix])
        return ids[:limit]


def _tokens(encoding: tokenizers.Encoding, text: str) -> list[Token]:
    # The library counts characters; for ASCII they are bytes.
    widths = None if text.isascii() else np.array([0, *(len(character.encode()) for character in text)]).cumsum()
    found = []
    columns = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    for token_id, name, special, (begin, end) in columns:
        if special:
            found.append(Token(token_id, name, True, None, None))
        else:
            start, stop = (begin, end) if widths is None else (int(widths[begin]), int(widths[end]))
            found.append(Token(token_id, text[begin:end], False, start, stop))
    return found


def _tokenizer_config(spec: ModelSpec) -> Mapping[str, object]:
    path = spec.directory / TOKENIZER_CONFIG_FILE
    return read_json(path) if path.exists() else {}


def _normalize_as_class(tokenizer: tokenizers.Tokenizer, config: Mapping[str, object]) -> None:
    """Have texts changed as some of transformers' classes do before their tokenizer sees them."""
    name = str(config.get("tokenizer_class")).removesuffix("Fast")
    before: list[normalizers.Normalizer] = []
    if name == "Siglip2Tokenizer" or (name == "SiglipTokenizer" and config.get("do_lower_case", True)):
        before.append(normalizers.Lowercase())
    if name == "SiglipTokenizer":
        before.append(normalizers.Replace(tokenizers.Regex(PUNCTUATION), ""))
        before.append(normalizers.Replace(tokenizers.Regex(r"\s+"), " "))
        before.append(normalizers.Strip())
    if before:
        own = tokenizer.normalizer
        tokenizer.normalizer = normalizers.Sequence(before if own is None else [*before, own])


def _has_segments(spec: ModelSpec, config: Mapping[str, object]) -> bool:
    """Whether the second text of a pair is another segment to the model, as it is for BERT and not for RoBERTa.

    As in transformers 5 the tokenizer's configuration decides whether token types are handed to the model, by a list or
    by the name of a class.
    """
    inputs, name = config.get("model_input_names"), config.get("tokenizer_class")
    if isinstance(inputs, list):
        given = "token_type_ids" in inputs
    else:
        given = name is None or str(name).removesuffix("Fast") in TOKENIZERS_WITH_SEGMENTS
    return given and spec.settings.get("type_vocab_size") not in (0, 1)


def _special_frame(tokenizer: tokenizers.Tokenizer) -> tuple[TokenIds, TokenIds]:
    """The special tokens before the first and after the last token of a text, int32, possibly none."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    special = tokenizer.encode("a", add_special_tokens=True)
    # The text's own tokens are those that the post-processor did not add.
    own = [position for position, added in enumerate(special.special_tokens_mask) if not added]
    begin, end = (own[0], own[-1] + 1) if plain.ids and own else (0, len(special.ids))
    return np.asarray(special.ids[:begin], dtype=np.int32), np.asarray(special.ids[end:], dtype=np.int32)

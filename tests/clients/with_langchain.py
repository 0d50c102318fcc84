"""LangChain's OpenAIEmbeddings, which by default sends the ids of another tokenizer."""

import asyncio
import importlib.util
import os
from pathlib import Path

import openai
from langchain_openai import OpenAIEmbeddings

from tests.clients.plain import TEXTS, assert_same, embeddings, run


def main(url: str, model: str) -> None:
    check_texts(url, model)
    # tiktoken fetches its vocabularies; LiteLLM, installed beside it, ships the same files, named as in that cache.
    litellm = importlib.util.find_spec("litellm")
    assert litellm and litellm.origin
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.origin).parent / "litellm_core_utils/tokenizers")
    check_foreign_ids(url, model)


def check_texts(url: str, model: str) -> None:
    """As its documents say for servers that are not OpenAI's."""
    client = OpenAIEmbeddings(
        model=model, base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False, chunk_size=10
    )
    wanted = embeddings(url, model, TEXTS)
    assert_same(client.embed_documents(TEXTS), wanted)
    assert_same(client.embed_query(TEXTS[3]), wanted[3])
    assert_same(asyncio.run(client.aembed_documents(TEXTS)), wanted)
    try:
        OpenAIEmbeddings(
            model="nobody", base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False
        ).embed_query("water")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    else:
        raise AssertionError("a model that is not served was found")


def check_foreign_ids(url: str, model: str) -> None:
    """By default the texts become tiktoken's ids: the answer says so, and which setting sends texts."""
    client = OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key="none")
    try:
        client.embed_documents(TEXTS)
    except openai.BadRequestError as error:
        assert error.code == "token_id_out_of_range" and error.param == "input"
        assert "check_embedding_ctx_length=False" in error.message
    else:
        raise AssertionError("ids of another tokenizer were embedded")


if __name__ == "__main__":
    run(main)

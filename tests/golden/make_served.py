"""Makes the goldens of what the api does before and after the model: chat templates, pairs, prompts; see variants.py.

    python -m tests.golden.make_served

The references are transformers' `apply_chat_template` and Sentence Transformers' CrossEncoder and SentenceTransformer.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer

from tests.golden.make_encoders import SIZES as ENCODER_SIZES
from tests.golden.make_heads import QwenReward
from tests.golden.reference import (
    FAMILIES,
    LONGEST,
    TEXTS,
    digits,
    expect,
    logits,
    save,
    save_tokenizer,
    spread_weights,
    wordpiece,
    write_json,
)
from tests.golden.variants import SERVED, made

LONG = 1024

# In the manner of ChatML: it knows its roles, and strips what an assistant says.
CHAT_TEMPLATE = """\
{%- if messages[0].role == 'assistant' %}{{ raise_exception('A conversation begins with a user.') }}{% endif %}
{%- for message in messages %}
    {{- bos_token + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}{{ message.content | trim }}{% else %}{{ message.content }}{% endif %}
    {{- eos_token + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ bos_token + 'assistant\\n' }}{% if mood %}{{ mood }}{% endif %}{% endif %}
"""

# As rerankers of Sentence Transformers have it: roles for both, an instruction as system prompt, content in parts.
RERANK_TEMPLATE = """\
{%- set system = messages | selectattr('role', 'eq', 'system') | list %}
{{- (system | first).content[0].text if system else 'relevant?' }}
{{- '\\nquery: ' + (messages | selectattr('role', 'eq', 'query') | first).content[0].text }}
{{- '\\ndocument: ' + (messages | selectattr('role', 'eq', 'document') | first).content[0].text }}
{{- '\\nanswer: ' }}
"""

WIDE = {"config.json": {"max_position_embeddings": LONG}, "tokenizer_config.json": {"model_max_length": LONG}}

QUERY = "how does water come to the mill"
DOCUMENTS = [
    "The mill pond stores water.",
    "rain",
    "naïve café – déjà vu",
    "磨坊的池塘储存着水。",
    "a queue of requests waits; nothing accepted is ever lost " * 2,
]


def described(source: str, changes: dict[str, Any], files: dict[str, str]) -> dict[str, Any]:
    """A golden without its expectations."""
    return {"from": source, "changes": changes, "files": files}


@contextmanager
def checkpoint(golden: dict[str, Any]) -> Iterator[Path]:
    """Its directory, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        yield made(golden, Path(folder) / "model")


def write(name: str, golden: dict[str, Any]) -> None:
    write_json(SERVED / f"{name}.expected.json", golden)


def conversations(end: str = "") -> list[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Messages, and how they are to be rendered; each answer ends with `end`."""
    asked = {"role": "user", "content": "where does the water go?"}
    answer = {"role": "assistant", "content": f" to the wheel, below \n{end}"}
    return [
        ([asked, answer], {}),
        ([{"role": "system", "content": "磨坊"}, asked, answer], {}),
        ([asked, answer, {"role": "user", "content": "and then 😀"}, {"role": "assistant", "content": f"on{end}"}], {}),
        ([asked, {"role": "assistant", "content": f"a{end} b{end}"}], {"continue_final_message": True}),
        ([asked, answer, asked], {"add_generation_prompt": True}),
        ([asked, answer, asked], {"add_generation_prompt": True, "mood": "so:"}),
    ]


def make_rewards(name: str, source: str, labels: int, score: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
    """Conversations through a chat template, and the scores of Qwen2.5-Math's heads."""
    special = {"bos_token": "<|endoftext|>", "eos_token": {"content": "<|endoftext|>", "lstrip": False}}
    changes = {**WIDE, "tokenizer_config.json": {**WIDE["tokenizer_config.json"], "bos_token": special["bos_token"]}}
    files = {"chat_template.jinja": CHAT_TEMPLATE, "special_tokens_map.json": json.dumps(special)}
    golden = described(f"families/{source}", changes, files)
    with checkpoint(golden) as directory:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        config = transformers.Qwen2Config.from_pretrained(directory, num_labels=labels)
        model = QwenReward.from_pretrained(directory, config=config).eval()
        golden["cases"] = cases = []
        for messages, options in conversations("<extra_0>" if labels == 2 else ""):
            text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            ids = tokenizer.apply_chat_template(messages, return_dict=False, **options)
            assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                states = model.model(torch.tensor([ids])).last_hidden_state[0]
                found = score(model, states if labels == 1 else states[torch.tensor(ids) == 1])
            cases.append({"messages": messages, "options": options, "text": text, "ids": ids, "score": digits(found)})
    write(name, golden)


def make_cross_encoder() -> None:
    """A BERT with one label and segments: pairs for the family's own test, and what CrossEncoder makes of them."""
    tokenizer = wordpiece()
    config = transformers.BertConfig(
        **ENCODER_SIZES, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=LONGEST, num_labels=1
    )
    model = transformers.BertForSequenceClassification(config).eval()
    spread_weights(model)
    directory = save("bert-reranker", model, tokenizer)
    save_tokenizer(directory, tokenizer, tokenizer_class="BertTokenizer")
    pairs = [("water", text) for text in TEXTS] + [("the wheel below", "the river and the mill")]
    expect("bert-reranker", pairs, logits(model))

    golden = described("families/bert-reranker", {}, {})
    encoder = CrossEncoder(str(directory), device="cpu")
    texts = DOCUMENTS[:4]
    golden |= {"query": QUERY, "documents": texts}
    golden["relevance"] = digits(encoder.predict([(QUERY, text) for text in texts]))
    golden["raw"] = digits(encoder.predict([(QUERY, text) for text in texts], activation_fn=torch.nn.Identity()))
    golden["tokens"] = sum(len(encoder.tokenizer(QUERY, text)["input_ids"]) for text in texts)
    document = DOCUMENTS[4] * 2
    long = encoder.tokenizer(QUERY, document, truncation="only_second", max_length=LONGEST, return_tensors="pt")
    with torch.no_grad():
        golden["cut"] = {"document": document, "relevance": float(model(**long).logits.sigmoid())}
    write("cross-encoder", golden)


def make_qwen3_reranker() -> None:
    """Without a template: the prompt and the score of Qwen3-Reranker's card, in its own way of putting it together."""
    golden = described("families/qwen3-reranker", WIDE, {})
    prefix = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    suffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    instruction = "Given a web search query, retrieve relevant passages that answer the query"
    with checkpoint(golden) as directory:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        model = transformers.Qwen3ForCausalLM.from_pretrained(directory).eval()
        no, yes = (tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))
        scores, tokens = [], 0
        for document in DOCUMENTS:
            middle = f"<Instruct>: {instruction}\n<Query>: {QUERY}\n<Document>: {document}"
            ids = [
                each for text in (prefix, middle, suffix) for each in tokenizer.encode(text, add_special_tokens=False)
            ]
            with torch.no_grad():
                both = model(torch.tensor([ids])).logits[0, -1, [no, yes]]
            scores.append(float(torch.softmax(both, dim=-1)[1]))
            tokens += len(ids)
    golden |= {"query": QUERY, "documents": DOCUMENTS, "relevance": scores, "tokens": tokens}
    golden["pooler_config"] = {"returned_token_ids": [yes, no], "activation": "softmax"}
    write("qwen3-reranker", golden)


def make_template_reranker() -> None:
    """With a template: what CrossEncoder makes of it, the log odds as they are, whole and cut."""
    prompts = {"prompts": {"query": "is it wet?"}, "default_prompt_name": "query"}
    files = {"chat_template.jinja": RERANK_TEMPLATE, "config_sentence_transformers.json": json.dumps(prompts)}
    padding = {"tokenizer_config.json": {**WIDE["tokenizer_config.json"], "pad_token": "<|endoftext|>"}}
    golden = described("families/qwen3-reranker", {**WIDE, **padding}, files)
    pairs = [(QUERY, document) for document in DOCUMENTS]
    with checkpoint(golden) as directory:
        encoder = CrossEncoder(
            str(directory), device="cpu", prompts=prompts["prompts"], default_prompt_name="query",
            activation_fn=torch.nn.Identity(),
        )  # fmt: skip
        golden |= {"query": QUERY, "documents": DOCUMENTS, "raw": digits(encoder.predict(pairs, batch_size=1))}
        features = [encoder.preprocess([pair], prompt="is it wet?")["input_ids"] for pair in pairs]
        golden["tokens"] = sum(ids.shape[1] for ids in features)
        limit = max(ids.shape[1] for ids in features) - 7
        encoder.max_seq_length = limit
        golden["cut"] = {"limit": limit, "raw": digits(encoder.predict(pairs, batch_size=1))}
        golden["pooler_config"] = {"returned_token_ids": [1, 2], "activation": "none"}
    write("template-reranker", golden)


def make_prompts() -> None:
    """Prompts by name and by default, and a conversation, through SentenceTransformer and transformers."""
    prompts = {"query": "the river: ", "document": "rain. ", "none": ""}
    own = {"prompts": prompts, "default_prompt_name": "document"}
    template = "{% for message in messages %}{{ message.role }} {{ message.content }} {% endfor %}{{ sep_token }}"
    golden = described(
        "tiny-bert",
        {"tokenizer_config.json": {"chat_template": [{"name": "default", "template": template}]}},
        {"config_sentence_transformers.json": json.dumps(own)},
    )
    texts = ["water", "The mill pond stores water.", "naïve café – déjà vu"]
    messages = [{"role": "user", "content": "the mill"}, {"role": "assistant", "content": "stores water"}]
    with checkpoint(golden) as directory:
        model = SentenceTransformer(str(directory), device="cpu")
        golden |= {"texts": texts, "default": vectors(model.encode(texts))}
        golden["by_name"] = {name: vectors(model.encode(texts, prompt_name=name)) for name in prompts}
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        ids = tokenizer.apply_chat_template(messages, return_dict=False)
        backbone = transformers.AutoModel.from_pretrained(directory).eval()
        with torch.no_grad():
            mean = backbone(torch.tensor([ids])).last_hidden_state[0].mean(0)
        golden["conversation"] = {"messages": messages, "tokens": len(ids)}
        golden["conversation"]["embedding"] = digits(torch.nn.functional.normalize(mean, dim=-1))
    write("prompts", golden)


def vectors(rows: Sequence[Any]) -> list[list[float]]:
    """Each row as numbers."""
    return [digits(row) for row in rows]


if __name__ == "__main__":
    assert FAMILIES.exists()
    make_rewards("chat-reward", "qwen2-reward", 1, lambda model, states: model.score(states[-1]))
    make_rewards(
        "chat-process-reward",
        "qwen2-process-reward",
        2,
        lambda model, states: torch.softmax(model.score(states), dim=-1)[:, 1],
    )
    make_cross_encoder()
    make_qwen3_reranker()
    make_template_reranker()
    make_prompts()

"""The models: from a checkpoint and token ids to pooled vectors. Knows nothing of queues or HTTP.

`config`, `checkpoint`, `fetch`, `tokenizing` and `errors` never import paddle, so that the api process can use them;
`engine` and everything below it do.
"""

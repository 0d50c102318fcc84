"""What one request may change about how a model pools, and what it may not. Paddle-free: the api asks here first."""

from pooling.architectures import Head
from pooling.config import ModelSpec
from pooling.pooler_config import OPTION, Activation, PoolingType


def refusal(spec: ModelSpec, pooling_type: PoolingType | None, activation: Activation | None) -> str | None:
    """Why a request cannot have this model pool so, in a sentence that says what to do; None when it can.

    Args:
        spec: the model.
        pooling_type: wanted in place of the model's own; None leaves that.
        activation: wanted for scores in place of the model's own; None leaves that.
    """
    scores = spec.head is not Head.NONE
    if pooling_type is PoolingType.STEP and not scores:
        return "pooling_type STEP scores steps, and this model gives embeddings: use another."
    if pooling_type is PoolingType.STEP and spec.pooler.step_tag_id is None:
        return (
            "pooling_type STEP needs the token that ends a step, and this model is served without one: use another, or "
            f"give step_tag_id in {OPTION}."
        )
    if activation not in (None, Activation.NONE) and not scores:
        return f"activation {activation} is for scores, and this model gives embeddings: leave it out."
    return None

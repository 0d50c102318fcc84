"""`GET /v1/models`: what is served."""

from fastapi import APIRouter, Request

from api.protocol.openai import Model, ModelList
from api.serving import ServedModel
from api.state import caller_of, named_model, state_of
from pooling.architectures import Head

router = APIRouter()


@router.get("/v1/models", summary="List the served models")
async def list_models(request: Request) -> ModelList:
    """The models served here that the caller's key may use, by the names that requests may use."""
    caller = caller_of(request)
    return ModelList(data=[_shown(model) for model in state_of(request).models if caller.may_use(model.names)])


@router.get("/v1/models/{name:path}", summary="Describe a served model")
async def get_model(request: Request, name: str) -> Model:
    """A model by its name, or a 404 that lists the names."""
    return _shown(named_model(request, name))


def _shown(model: ServedModel) -> Model:
    return Model(
        id=model.name,
        created=model.created,
        max_model_len=model.spec.max_model_len,
        dimensions=model.spec.row_width,
        pooling=str(model.spec.pooler.pooling_type),
        tasks=list(model.spec.tasks),
        normalize=model.spec.pooler.normalize if model.spec.head is Head.NONE else None,
        activation=str(model.spec.pooler.activation) if model.spec.head is not Head.NONE else None,
        fingerprint=model.spec.fingerprint,
    )

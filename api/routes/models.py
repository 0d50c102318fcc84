"""`GET /v1/models`: what is served."""

from fastapi import APIRouter, Request

from api.protocol.openai import Model, ModelList
from api.serving import ServedModel
from api.state import state_of

router = APIRouter()


@router.get("/v1/models", summary="List the served models")
async def list_models(request: Request) -> ModelList:
    """The one model served here."""
    return ModelList(data=[_shown(state_of(request).model)])


@router.get("/v1/models/{name:path}", summary="Describe a served model")
async def get_model(request: Request, name: str) -> Model:
    """A model by its name, or a 404 that lists the names."""
    model = state_of(request).model
    model.check_name(name)
    return _shown(model)


def _shown(model: ServedModel) -> Model:
    return Model(
        id=model.name,
        created=model.created,
        max_model_len=model.spec.max_model_len,
        dimensions=model.spec.embedding_dimensions,
        pooling=str(model.spec.pooler.pooling_type),
    )

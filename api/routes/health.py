"""`GET /health`, `/ping`: this process lives. `GET /ready`: a forward goes the whole way, with every model."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from api.errors import overloaded
from api.state import state_of

router = APIRouter()


class Status(BaseModel):
    """The reply of both."""

    status: Literal["ok", "ready"]


@router.get("/health", summary="Whether this process lives")
@router.get("/ping", summary="Whether this process lives, as SageMaker asks")
@router.post("/ping", summary="Whether this process lives, as vLLM is asked")
async def health() -> Status:
    """Always 200: a process that does not live does not answer."""
    return Status(status="ok")


@router.get("/ready", summary="Whether a forward goes the whole way")
async def ready(request: Request) -> Status:
    """200 when a forward went through queue, worker and back in the last seconds; else 503 with the reason."""
    troubles = await asyncio.gather(*(canary.trouble() for canary in state_of(request).canaries))
    found = [trouble for trouble in troubles if trouble is not None]
    if found:
        raise overloaded(f"Not ready: {'; '.join(found)}.", 2)
    return Status(status="ready")

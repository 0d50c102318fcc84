"""What a bulk command finds out before it runs: the model, how rows are read, and what every call says."""

from api.bulk.arguments import BulkCommand
from api.bulk.client import Endpoint
from api.bulk.models import ScoringModel, own_model, served_model
from api.bulk.planning import Plan
from api.bulk.shapes import Overrides, Shape, shape_of
from api.bulk.stopping import Stop
from api.bulk.task import first_rows


async def model_of(command: BulkCommand, stop: Stop) -> ScoringModel:
    """The model that rows are scored by; raises BulkError or LaunchError where there is none."""
    if command.server is None:
        return await stop.unless_in_thread(lambda: own_model(command.options, command.kind))
    return await stop.unless(served_model(Endpoint(command.server, command.key), command.model, command.kind))


def shape_of_rows(command: BulkCommand, plan: Plan) -> Shape:
    """How the rows are read; raises BulkError where that cannot be told."""
    return shape_of(command.kind, first_rows(plan.samples), Overrides(**command.overrides))


def call_of(command: BulkCommand, model: ScoringModel) -> dict[str, object]:
    """The fields of each call beside its rows."""
    compact = {"encoding_format": "base64"} if command.kind == "embed" else {}
    return {"model": model.name, "task": command.kind, **command.call, **compact}

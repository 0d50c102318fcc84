"""Who calls: what the key that came with a request allows."""

from collections.abc import Collection
from dataclasses import dataclass

from api.errors import ApiError
from scheduler.keys import Lane


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key.

    Attributes:
        name: of the key; also the tenant of all that is queued with it. "" where no keys are configured.
        models: the served names that it may use; None all.
        lanes: the classes of work that it may hand in; None all.
        tokens_per_minute: how many input tokens it may send; None as many as it likes.
        concurrency: how many of its calls may run at once; None as many as it likes.
    """

    name: str
    models: Collection[str] | None = None
    lanes: Collection[Lane] | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether its calls are counted at all."""
        return self.tokens_per_minute is not None or self.concurrency is not None

    def may_use(self, model: str) -> bool:
        """Whether it may use the model that is served by this name."""
        return self.models is None or model in self.models

    def check_model(self, model: str) -> None:
        """Raises a 403 that lists the models of the key, when the model served by this name is not among them."""
        if not self.may_use(model):
            listed = ", ".join(sorted(self.models or ()))
            raise ApiError(
                403,
                f"The key {self.name!r} may not use the model {model!r}: its models are {listed}.",
                param="model",
                code="model_not_allowed",
            )

    def check_lane(self, lane: Lane) -> None:
        """Raises a 403 that lists the lanes of the key, when this one is not among them."""
        if self.lanes is not None and lane not in self.lanes:
            listed = ", ".join(sorted(self.lanes))
            raise ApiError(
                403,
                f"The key {self.name!r} may not hand in {lane} work: its lanes are {listed}.",
                code="lane_not_allowed",
            )


ANONYMOUS = Caller("")
"""Everyone, where no keys are configured."""

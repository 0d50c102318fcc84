"""Who calls: what the key that came with a request allows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from api.errors import ApiError
from scheduler.keys import Lane


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key.

    Attributes:
        name: of the key; also the tenant of all that is queued with it. "" where no keys are configured.
        models: those that it may use, by any of the names that requests may call them; None all.
        lanes: the classes of work that it may hand in; None all.
        tokens_per_minute: how many input tokens it may send; None as many as it likes.
        concurrency: how many of its calls may run at once; None as many as it likes.
        weight: its share of a lane beside those of other keys.
    """

    name: str
    models: frozenset[str] | None = None
    lanes: Collection[Lane] | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    weight: int = 1

    @property
    def is_limited(self) -> bool:
        """Whether its calls are counted at all."""
        return self.tokens_per_minute is not None or self.concurrency is not None

    def may_use(self, names: Sequence[str]) -> bool:
        """Whether it may use the model that is served by these names: that one of them is allowed is enough."""
        return self.models is None or not self.models.isdisjoint(names)

    def check_model(self, names: Sequence[str]) -> None:
        """Raises a 403 that lists the models of the key, when it may not use the one served by these names."""
        if not self.may_use(names):
            listed = ", ".join(sorted(self.models or ()))
            raise ApiError(
                403,
                f"The key {self.name!r} may not use the model {names[0]!r}: its models are {listed}.",
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

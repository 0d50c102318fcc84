"""Pages of what an owner has, out of a sorted set by time of making."""

from fastapi import Request
from redis.asyncio import Redis

from api.errors import bad_request


def page_number(request: Request, name: str, default: int, most: int) -> int:
    """A number of a page's query; raises a 400 out of 1 to `most`."""
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise bad_request(f"{name} is {given!r}; it must be from 1 to {most}.", name)
    return int(given)


def newest_first(request: Request) -> bool:
    """The order that a page's query asks for; raises a 400 for any but asc and desc."""
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise bad_request(f"order is {order!r}; it must be asc or desc.", "order")
    return order == "desc"


async def ids_after(redis: Redis, index: str, after: str | None, newest: bool, count: int) -> list[str]:
    """Up to so many members behind one of them, in the order of their making.

    Raises:
        ApiError: 400, there is no such member to begin behind.
    """
    begin = 0
    if after is not None:
        rank = await (redis.zrevrank(index, after) if newest else redis.zrank(index, after))
        if rank is None:
            raise bad_request(f"after is {after!r}, which is not among yours.", "after")
        begin = rank + 1
    end = begin + count - 1
    found = await (redis.zrevrange(index, begin, end) if newest else redis.zrange(index, begin, end))
    return [member.decode() for member in found]

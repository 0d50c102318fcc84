"""Whether a Redis that a flag names is there and fit, said before anything is started."""

from api.errors import LaunchError
from scheduler.connection import check_server, connect
from scheduler.errors import SchedulerError


def check_redis(url: str, flag: str) -> None:
    """Asks the server once.

    Raises:
        LaunchError: it is no URL of a Redis, nothing answers there, or it would forget what it holds; names the flag.
    """
    try:
        client = connect(url)
    except ValueError as error:
        raise LaunchError(f"{flag} is not a Redis URL: {error}.") from error
    try:
        check_server(client)
    except SchedulerError as error:
        raise LaunchError(str(error).replace("--redis-url", flag)) from error
    finally:
        client.close()

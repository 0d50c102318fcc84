"""How every role logs: one line an event, as text for people or as JSON for collectors."""

import json
import logging
import sys
import time
import traceback


class _Text(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s {role:<9} %(levelname)-7s %(message)s", "%H:%M:%S")


class _Json(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(role: str, log_format: str) -> None:
    """Sends this process's log to standard error, each line marked with its role."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(role) if log_format == "json" else _Text(role))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("celery", "kombu", "amqp", "httpx", "uvicorn", "filelock", "huggingface_hub"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

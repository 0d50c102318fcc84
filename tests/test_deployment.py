"""compose.yaml and the Dockerfile agree with the program: what can be checked without a Docker engine."""

import re
from pathlib import Path

import yaml

from api.arguments import COMMANDS
from api.options import Options

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
ROLES = {name: service for name, service in COMPOSE["services"].items() if name != "redis"}


def test_every_service_runs_a_command_that_exists() -> None:
    commands = dict(COMMANDS)
    assert set(ROLES) == {"api", "scheduler", "worker", "worker-gpu"}
    for service in ROLES.values():
        assert service["command"][0] in commands


def test_every_variable_is_an_option() -> None:
    known = {f"MILLPOND_{name.upper()}" for name in Options.model_fields}
    for service in ROLES.values():
        assert set(service["environment"]) <= known


def test_every_service_is_watched_and_waits_for_redis() -> None:
    for service in COMPOSE["services"].values():
        assert service["healthcheck"]["test"]
    for service in ROLES.values():
        assert service["depends_on"]["redis"]["condition"] == "service_healthy"
    assert "noeviction" in COMPOSE["services"]["redis"]["command"]
    assert "queue:/data" in COMPOSE["services"]["redis"]["volumes"]


def test_the_gpu_is_reserved_in_its_profile_only() -> None:
    assert [name for name, service in ROLES.items() if "deploy" in service] == ["worker-gpu"]
    assert COMPOSE["services"]["worker-gpu"]["profiles"] == ["gpu"]


def test_the_image_runs_as_nobody_special_and_copies_what_exists() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for stage in text.split("\nFROM ")[2:]:
        assert stage.rstrip().endswith("USER 10001")
    for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    extras = set(re.findall(r"'\.\[(\w+)\]'", text))
    assert extras == {"cpu"}


def test_the_api_does_not_start_without_a_key_and_nobody_else_is_told_it() -> None:
    told = [name for name, service in ROLES.items() if "MILLPOND_API_KEY" in service["environment"]]
    assert told == ["api"]
    assert ROLES["api"]["environment"]["MILLPOND_API_KEY"].startswith("${MILLPOND_API_KEY:?")
    assert ROLES["api"]["environment"]["MILLPOND_HOST"] == "0.0.0.0"

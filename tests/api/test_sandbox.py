"""The processes that render are held by the kernel, replaced when they end, and never more than there may be."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from api.errors import ApiError
from api.rendering import CHILDREN, Renderer, Sandbox
from pooling.chat_template import ChatTemplate
from tests.conftest import eventually

MESSAGES = [{"role": "user", "content": "where to?"}]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

AN_API_PROCESS = """
import asyncio
from api.rendering import Sandbox
async def main():
    sandbox = Sandbox()
    await sandbox.start()
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def children(process: int | None = None) -> list[psutil.Process]:
    """The processes that render for a process."""
    found = []
    for child in psutil.Process(process).children():
        with suppress(psutil.Error):
            if "api.sandbox.child" in child.cmdline():
                found.append(child)
    return found


@pytest.fixture
def renderer(sandbox: Sandbox) -> Renderer:
    template = ChatTemplate("{{ messages[0].content }}", {}, Path("chat_template.jinja"))
    return Renderer(sandbox, template, {}, takes_templates=True)


def test_a_process_that_renders_knows_no_secrets_and_can_open_nothing(
    runner: asyncio.Runner, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLPOND_SECRET", "open sesame")
    for child in children():
        child.kill()
    assert runner.run(renderer.render(MESSAGES)) == "where to?"
    # What callers bring waits shortly only, and a busy machine may need longer to start a process.
    assert eventually(lambda: _rendered(runner, renderer, "a mill")) == "a mill"
    found = [child for child in children() if _runs(child)]
    assert len(found) >= 2
    for child in found:
        eventually(lambda child=child: child.rlimit(resource.RLIMIT_AS)[1] > 0)  # the last of its limits
        assert set(child.environ()) <= {"TZ", "PYTHONPATH", "LC_CTYPE"}
        assert child.num_fds() == 3
        for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
            assert child.rlimit(kind) == (0, 0)
        assert child.rlimit(resource.RLIMIT_NOFILE) == (3, 3)
        assert child.rlimit(resource.RLIMIT_AS)[1] < 500 * 1024 * 1024


def _rendered(runner: asyncio.Runner, renderer: Renderer, template: str) -> str | None:
    """None while no process is free."""
    try:
        return runner.run(renderer.render(MESSAGES, template=template))
    except ApiError as error:
        assert error.status == 503, error
        return None


def test_a_process_that_was_killed_is_replaced_and_nobody_hears_of_it(
    runner: asyncio.Runner, renderer: Renderer
) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        for child in children():
            child.send_signal(number)
        assert runner.run(renderer.render(MESSAGES)) == "where to?"


def test_a_job_whose_process_is_killed_is_done_by_another(runner: asyncio.Runner, renderer: Renderer) -> None:
    async def killed_over_it() -> str:
        assert await renderer.render(MESSAGES) == "where to?"
        for child in children():
            child.suspend()
        job = asyncio.create_task(renderer.render(MESSAGES))
        await asyncio.sleep(0)  # the job is with a process, which does not run
        await asyncio.sleep(0)
        for child in children():
            child.kill()
        return await job

    assert runner.run(killed_over_it()) == "where to?"


def test_a_process_that_does_not_answer_is_given_up(runner: asyncio.Runner, renderer: Renderer) -> None:
    assert runner.run(renderer.render(MESSAGES)) == "where to?"
    for child in children():
        child.suspend()
    with pytest.raises(ApiError, match=r"takes longer than the 0\.5 seconds"):
        runner.run(renderer.render(MESSAGES))
    for child in children():
        child.resume()
    assert runner.run(renderer.render(MESSAGES)) == "where to?"


def test_many_at_once_are_done_by_few_processes(runner: asyncio.Runner, renderer: Renderer) -> None:
    async def many() -> list[str]:
        jobs = [asyncio.create_task(renderer.render(MESSAGES)) for _ in range(500)]
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        assert len(children()) <= 2 * CHILDREN
        return await asyncio.gather(*jobs)

    assert runner.run(many()) == ["where to?"] * 500


def test_what_callers_bring_is_answered_in_time_and_holds_up_nobody_else(
    runner: asyncio.Runner, renderer: Renderer
) -> None:
    async def hostile() -> tuple[ApiError, float]:
        began = time.monotonic()
        with pytest.raises(ApiError) as caught:
            await renderer.render(MESSAGES, template=LOOP)
        return caught.value, time.monotonic() - began

    async def beside() -> tuple[list[tuple[ApiError, float]], list[float]]:
        attacks = [asyncio.create_task(hostile()) for _ in range(20)]
        waits = []
        while not all(each.done() for each in attacks):
            began = time.monotonic()
            assert await renderer.render(MESSAGES) == "where to?"
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.001)
        return await asyncio.gather(*attacks), waits

    # On a busy machine none of them would find a process started in time, and so none would be ended.
    assert eventually(lambda: _rendered(runner, renderer, "a mill")) == "a mill"
    answers, waits = runner.run(beside())
    assert {(error.status, error.code) for error, _ in answers} == {(400, "template_limit"), (503, "unavailable")}
    assert max(seconds for _, seconds in answers) < 2
    assert sorted(waits)[len(waits) // 2] < 0.1
    assert max(waits) < 1


def test_a_caller_that_leaves_takes_no_process_along(runner: asyncio.Runner, renderer: Renderer) -> None:
    async def leaves() -> str:
        for _ in range(2 * CHILDREN):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await renderer.render(MESSAGES, template=LOOP)
        return await renderer.render(MESSAGES)

    assert runner.run(leaves()) == "where to?"


def test_processes_that_render_end_with_the_process_that_they_render_for() -> None:
    with subprocess.Popen([sys.executable, "-c", AN_API_PROCESS], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        rendering = children(process.pid)
        assert len(rendering) == 2
        os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not any(_runs(child) for child in rendering))


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_runs_templates_loads_neither_the_api_nor_a_client_of_anything() -> None:
    code = "import sys, api.sandbox.child; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"fastapi", "redis", "numpy", "pydantic"} & set(loaded)

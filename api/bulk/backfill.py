"""One run of a backfill: plan, servers, executors, the loop until all chunks are done, and the output joined."""

import asyncio
import sys
from contextlib import ExitStack
from dataclasses import dataclass

from api.bulk.arguments import BulkCommand
from api.bulk.asking import questions_of
from api.bulk.carrier import Carrier
from api.bulk.client import RowsClient
from api.bulk.coordinating import Coordinator
from api.bulk.environment import Running, check_ledger, reports, running
from api.bulk.errors import BulkError
from api.bulk.joining import Joining
from api.bulk.ledger import Ledger
from api.bulk.models import ScoringModel
from api.bulk.planning import Plan, Settings, planned, record
from api.bulk.preparing import call_of, model_of, shape_of_rows
from api.bulk.progress import Progress
from api.bulk.reporting import REPORT_VARIABLE
from api.bulk.sources import Source, find_inputs
from api.bulk.statistics import Statistics
from api.bulk.stopping import Stop
from api.bulk.task import BackfillTask, first_rows
from api.bulk.workspace import ERRORS_SUFFIX, Workspace, default_folder
from api.supervisor import Role

DONE, DONE_WITH_BAD_ROWS = 0, 1
"""Exit statuses."""

EXECUTOR_STOP_SECONDS = 5.0


@dataclass
class Backfill:
    """A run of a backfill."""

    command: BulkCommand
    stop: Stop

    async def run(self) -> int:
        """Does all that is missing; the exit status.

        Raises:
            BulkError, LaunchError: it cannot begin, or not go on.
            Interrupted: it was told to stop.
        """
        command = self.command
        if command.ledger is not None:
            await self.stop.unless_in_thread(lambda: check_ledger(str(command.ledger)))
        sources = await self.stop.unless_in_thread(lambda: find_inputs(command.inputs))
        model = await model_of(command, self.stop)
        with ExitStack() as held:
            workspace = self._workspace(held)
            ledger = workspace.ledger()
            held.callback(ledger.close)
            try:
                plan = await self.stop.unless_in_thread(lambda: self._plan(ledger, workspace, sources, model))
                shape = await self.stop.unless_in_thread(lambda: shape_of_rows(command, plan))
            except BulkError:
                if workspace.has_nothing_done:
                    held.callback(workspace.remove)
                raise
            joining = Joining(ledger, workspace, plan.chunks, command.output, command.output_format)
            finished = await asyncio.to_thread(joining.finished)
            if finished is not None:
                joining.check_output()
                return self._told("is finished already", finished)
            print(f"{plan.rows:,} rows in {plan.chunks:,} chunks, read as {shape.description()}", flush=True)
            await self._score(workspace, ledger, plan, model)
            return self._told("is written", await joining.run(self.stop))

    def _workspace(self, held: ExitStack) -> Workspace:
        command = self.command
        folder = (command.work_dir or default_folder(command.output)).absolute()
        return Workspace.opened(folder, command.output, command.ledger, restart=command.restart, held=held)

    def _plan(self, ledger: Ledger, workspace: Workspace, sources: list[Source], model: ScoringModel) -> Plan:
        """What there is to be done: the same as before, where there was a before."""
        settings = Settings(
            command=self.command.kind,
            inputs=[source.path for source in sources],
            model=model.fingerprint,
            max_model_len=model.max_model_len,
            call=self.command.call,
            shape=self.command.overrides,
            chunk_rows=self.command.chunk_rows,
            output_format=self.command.output_format,
        )
        settings.check_against(ledger.settings(settings.encode()))
        chunks = planned(sources, self.command.chunk_rows, workspace.spool, self.stop.for_threads)
        return record(ledger, chunks)

    async def _score(self, workspace: Workspace, ledger: Ledger, plan: Plan, model: ScoringModel) -> None:
        """Runs until every chunk is done, with servers where they are needed."""
        before = await asyncio.to_thread(ledger.totals)
        if before.done >= plan.chunks:
            return
        command = self.command
        progress = Progress(plan.rows, sys.stdout, done_before=before.rows)
        around = running(command, workspace.backfill_id, workspace.server_log, progress.note, self.stop)
        async with around as servers:
            task = self._task(workspace, plan, model, servers)
            await self.stop.unless(self._refusal(task))
            carrier = Carrier(servers.broker_url, workspace.backfill_id)
            with reports() as (heard, descriptor):
                roles = self._executors(task, workspace, descriptor)
                await self.stop.unless(servers.supervisor.start(roles))
                loop = Coordinator(ledger, carrier, plan, command.executors, heard, progress, command.max_errors)
                try:
                    await self.stop.unless(loop.run())
                    await asyncio.to_thread(carrier.discard)
                finally:
                    progress.close()
                    carrier.close()

    def _task(self, workspace: Workspace, plan: Plan, model: ScoringModel, servers: Running) -> BackfillTask:
        command = self.command
        return BackfillTask(
            backfill_id=workspace.backfill_id,
            folder=workspace.folder,
            shared_ledger=command.ledger,
            broker_url=servers.broker_url,
            server=servers.endpoint.url,
            kind=command.kind,
            call=call_of(command, model),
            overrides=command.overrides,
            samples=plan.samples,
            output_format=command.output_format,
            key=servers.endpoint.key,
        )

    async def _refusal(self, task: BackfillTask) -> None:
        """Raises BulkError where the server would refuse every call: found before any executor is started."""
        shape = await asyncio.to_thread(task.shape)
        async with task.endpoint.client() as http:
            client = RowsClient(http, {**task.call, "render_only": True})
            first = questions_of(await asyncio.to_thread(first_rows, task.samples), shape).requests[:1]
            if first:
                await client.entries(first)

    def _executors(self, task: BackfillTask, workspace: Workspace, descriptor: int) -> list[Role]:
        return [
            Role(
                name=f"executor {number + 1}",
                command=[sys.executable, "-m", "api.bulk.executor"],
                environment={**task.environment(), REPORT_VARIABLE: str(descriptor)},
                descriptors=[descriptor],
                stop_seconds=EXECUTOR_STOP_SECONDS,
                log=workspace.executor_log,
            )
            for number in range(self.command.executors)
        ]

    def _told(self, what: str, statistics: Statistics) -> int:
        """Prints the summary; the exit status."""
        print(f"{self.command.output} {what}", "", *statistics.report(), sep="\n", flush=True)
        if not statistics.bad:
            return DONE
        print(f"bad rows are in {self.command.output}{ERRORS_SUFFIX}", flush=True)
        return DONE_WITH_BAD_ROWS

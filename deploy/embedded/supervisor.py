"""The launcher's long-lived half: brings the platform up in order, keeps it alive, takes it down in reverse."""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping

import anyio
from anyio import to_thread

from services.kit.settings import PORT_ORDER

from . import kafka, plan, postgres, preflight, secrets
from .child import Child
from .home import ROOT, Home, write_json
from .nursery import Nursery
from .part import Part
from .plan import Outside
from .preflight import Port
from .problem import Problem
from .processes import MARK, Running, end, end_leftovers, mark, spawn, spawn_from, take_over
from .state import PartRecord, Phase, State, launcher_lock, read, timestamp

_BACKBONE_WITHIN_S, _SERVICE_WITHIN_S = 150.0, 150.0  # a machine that is busy otherwise
_LOG_BYTES = 20 * 1024 * 1024
_EVERY_S = 60.0


class Supervisor:
    """One platform in one home."""

    def __init__(self, home: Home, outside: Outside) -> None:
        self.home = home
        self.outside = outside
        self.state = State(home.port, os.getpid())
        self._before = read(home)
        self._backbone: list[Child] = []
        self._services: list[Child] = []
        self._nursery: Nursery | None = None
        self._one_at_a_time = threading.Lock()

    async def run(self) -> int:
        """Until a signal comes. Answers the exit code."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._end_on_signal, group.cancel_scope)
                await self._bring_up(group)
                group.start_soon(self._housekeeping)
            self._step("stopping", "ending everything")
        except* (Problem, OSError) as errors:
            for error in _each(errors):
                self._fail(error if isinstance(error, Problem) else _of_system(error, self.home))
        finally:
            with anyio.CancelScope(shield=True):
                await self._take_down()
        if self.state.problem:
            self._step("failed", "")
            return 1
        self._step("stopped", "")
        return 0

    async def _end_on_signal(self, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for _ in signals:
                scope.cancel()
                return

    def _fail(self, problem: Problem) -> None:
        """The first problem is told: what comes after it may come of it, and is in the log."""
        print(f"{timestamp()} {problem}", flush=True)
        if self.state.problem is None:
            self.state.problem = (problem.message, problem.todo)
            self._step("stopping", "ending what was started")

    async def _bring_up(self, group: anyio.abc.TaskGroup) -> None:
        self._step("starting", "checking ports, disk and tools")
        preflight.check_settings()
        self.outside.check_issuer()
        preflight.check_tools(self.outside)
        secrets.make_secrets(self.home)
        secrets.write_tokens(self.home, people=not self.outside.issuer)
        plan.write_clients(self.home, self.outside)
        self._check_ports()
        if plan.chosen_services(self.outside):
            marked = {MARK: mark(self.home, "nursery")}
            self._nursery = Nursery(ROOT, self.home.logs / "launcher.log", marked)
        self._step("starting", "starting Kafka and PostgreSQL")
        await self._bring_up_backbone(group)
        self._write_endpoints()
        self._step("starting", "starting the services")
        await self._bring_up_services(group)
        self._step("ready", "")

    async def _bring_up_backbone(self, group: anyio.abc.TaskGroup) -> None:
        """What is not ours may not be there, so it is tried before anything is laid out and started."""
        ours: list[Callable[[anyio.abc.TaskGroup], Coroutine[None, None, None]]] = []
        async with anyio.create_task_group() as theirs:
            for outside, bring_up in (
                (self.outside.kafka, self._bring_up_kafka), (self.outside.database, self._bring_up_postgres),
            ):  # fmt: skip
                if outside is None:
                    ours.append(bring_up)
                else:
                    theirs.start_soon(bring_up, group)
        async with anyio.create_task_group() as pair:
            for bring_up in ours:
                pair.start_soon(bring_up, group)

    def _check_ports(self) -> None:
        """Every port that a part will take must be free, or held by a process that we take over."""
        wanted: dict[str, list[int]] = {
            service: [self.home.port_of(service)] for service in plan.chosen_services(self.outside)
        }
        if self.outside.kafka is None:
            wanted["kafka"] = [self.home.kafka_port, self.home.controller_port]
        if self.outside.database is None:
            wanted["postgres"] = [self.home.postgres_port]
        survivors = self._survivors(wanted)
        end_leftovers(self.home, spare=frozenset(survivors.values()))
        ours = survivors if self._before and self._before.port == self.home.port else {}
        preflight.check_ports(Port(n, name) for name, numbers in wanted.items() for n in numbers if name not in ours)

    def _survivors(self, wanted: Mapping[str, object]) -> dict[str, int]:
        """The processes that an earlier launcher left running and that are wanted again."""
        before = self._before.parts if self._before else {}
        return {
            name: record.pid
            for name, record in before.items()
            if name in wanted and take_over(self.home, record.pid, record.born)
        }

    async def _bring_up_kafka(self, group: anyio.abc.TaskGroup) -> None:
        if self.outside.kafka is None:
            await self._start(group, await to_thread.run_sync(kafka.part, self.home))
        else:
            self._external("kafka", self.outside.kafka["bootstrap.servers"])
        todo = (
            "Check FAIRLEAD_KAFKA, its login and the network."
            if self.outside.kafka
            else f"Read {self.home.logs / 'kafka.log'}."
        )
        await self._tool("services.kit.provision", todo)

    async def _bring_up_postgres(self, group: anyio.abc.TaskGroup) -> None:
        if self.outside.database is None:
            await self._start(group, await to_thread.run_sync(postgres.part, self.home))
        else:
            self._external("postgres", self.outside.database_host)
        todo = (
            "Check FAIRLEAD_DATABASE and the network."
            if self.outside.database
            else f"Read {self.home.logs / 'postgres.log'}."
        )
        await self._tool("services.kit.migrate", todo)

    def _external(self, name: str, address: str) -> None:
        self.state.parts[name] = PartRecord(state="external", address=address)
        self._save()

    async def _start(self, group: anyio.abc.TaskGroup, part: Part) -> None:
        child = self._child(part)
        self._backbone.append(child)
        group.start_soon(child.keep)
        await child.started(_BACKBONE_WITHIN_S)

    def _child(self, part: Part, start: Callable[[Home, Part], Running] = spawn) -> Child:
        before = self._before.parts.get(part.name) if self._before else None
        child = Child(self.home, part, self._save, before, start)
        self.state.parts[part.name] = child.record
        return child

    async def _bring_up_services(self, group: anyio.abc.TaskGroup) -> None:
        for service in plan.chosen_services(self.outside):
            part = plan.service_part(self.home, self.outside, service)
            self._services.append(self._child(part, self._from_nursery))
        for child in self._services:
            group.start_soon(child.keep)
        async with anyio.create_task_group() as waiting:
            for child in self._services:
                waiting.start_soon(child.started, _SERVICE_WITHIN_S)

    def _from_nursery(self, home: Home, part: Part) -> Running:
        with self._one_at_a_time:
            return spawn_from(self._nursery, home, part) if self._nursery else spawn(home, part)

    async def _tool(self, module: str, todo: str) -> None:
        """Run one of the kit's administrator's programs. Raises Problem with its last words."""
        environment = plan.tool_environment(self.home, self.outside)
        done = await anyio.run_process([sys.executable, "-m", module], env=environment, cwd=ROOT, check=False)
        if done.returncode:
            said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
            print("\n".join(said), flush=True)
            raise Problem((said or [f"{module} ended with {done.returncode}"])[-1].removeprefix("error: "), todo)

    def _write_endpoints(self) -> None:
        addresses = {
            "kafka": plan.bootstrap_servers(self.home, self.outside),
            "database": plan.database_url(self.home, self.outside),
        }
        write_json(self.home.endpoints, addresses | {service: self.home.url(service) for service in PORT_ORDER})

    async def _housekeeping(self) -> None:
        """Fresh tokens long before they end, by the wall clock: a laptop sleeps. And logs of bounded length."""
        renewed = time.time()
        while True:
            await anyio.sleep(_EVERY_S)
            try:
                if time.time() - renewed > secrets.RENEWED_EVERY.total_seconds():
                    secrets.write_tokens(self.home, people=not self.outside.issuer)
                    renewed = time.time()
                self._trim_logs()
            except OSError as error:
                print(f"{timestamp()} housekeeping: {error}", flush=True)

    def _trim_logs(self) -> None:
        for log in self.home.logs.glob("*.log"):
            if log.stat().st_size > _LOG_BYTES:
                shutil.copyfile(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)  # its writer appends, wherever the end is

    async def _take_down(self) -> None:
        for children in (self._services, self._backbone):
            async with anyio.create_task_group() as group:
                for child in children:
                    group.start_soon(child.stop)
            if self._nursery is not None:  # no service is started any more
                self._nursery.close()
                self._nursery = None
        end_leftovers(self.home)
        self.home.endpoints.unlink(missing_ok=True)

    def _step(self, phase: Phase, step: str) -> None:
        self.state.phase, self.state.step = phase, step
        print(f"{timestamp()} {phase} {step}", flush=True)
        self._save()

    def _save(self) -> None:
        try:
            self.state.save(self.home)
        except OSError as error:  # a full disk must not end what runs; the marks in the processes still find them
            print(f"{timestamp()} cannot write the state: {error}", flush=True)


def _each(group: BaseExceptionGroup[Problem | OSError]) -> Iterator[Problem | OSError]:
    """In the order in which they were raised."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


def _of_system(error: OSError, home: Home) -> Problem:
    return Problem(f"the operating system refuses: {error}", f"Look for a full disk or missing rights at {home.path}.")


def main(home: Home, outside: Outside) -> int:
    """Run as the launcher of this home."""
    preflight.check_home(home)
    with launcher_lock(home):
        return anyio.run(Supervisor(home, outside).run)


async def end_records(home: Home, state: State) -> None:
    """End what a killed launcher left running: services first, then Kafka and PostgreSQL."""
    backbone = {"kafka": signal.SIGTERM, "postgres": signal.SIGINT}
    for chosen in (state.parts.keys() - backbone.keys(), state.parts.keys() & backbone.keys()):
        async with anyio.create_task_group() as group:
            for name in chosen:
                record = state.parts[name]
                running = take_over(home, record.pid, record.born)
                if running is not None:
                    group.start_soon(end, running, backbone.get(name, signal.SIGTERM), 30.0)

"""Runs process instances: does the work they wait for, and hands them their mail when they wait for it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from services.governor.engine import process as engine
from services.governor.engine.policies import Policies
from services.governor.engine.process import Instance, Template, Work
from services.governor.store import processes as store
from services.governor.store.processes import Process
from services.kit.alerts import resolve_alert
from services.kit.context import EVERY_UNIT
from services.kit.db import Tx
from services.kit.ids import now

STUCK = "process-stuck"
"""The alert of a process that could not be moved on."""

Operation = Callable[[Tx, Process, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Work of a process: gets the process's data, answers what is added to them."""


Ending = Callable[[Tx, Process], Awaitable[None]]


class Runner:
    """All templates, their gates and the operations behind their tasks.

    A task's id names its operation. `asks` are begun when the process reaches a person's task; the person ends them.
    """

    def __init__(self, templates: Mapping[str, Template], policies: Policies) -> None:
        self.templates = templates
        self.policies = policies
        self._operations: dict[str, Operation] = {}
        self._asks: dict[str, Operation] = {}
        self._endings: list[Ending] = []

    def serve(
        self, operations: Mapping[str, Operation], asks: Mapping[str, Operation], endings: Sequence[Ending] = ()
    ) -> None:
        """Say who does the work, and who is told of each process that ended.

        Raises BadTemplate for a task or a policy that nobody would look at.
        """
        self._operations |= operations
        self._asks |= asks
        self._endings += endings
        drawn = {task for template in self.templates.values() for task in template.host_tasks}
        if unknown := sorted(drawn - self._operations.keys()):
            raise engine.BadTemplate(f"no service does the tasks {', '.join(unknown)}")
        gates = {gate for template in self.templates.values() for gate in template.gates}
        if unchecked := sorted(self.policies.gates ^ gates):
            raise engine.BadTemplate(f"gates and policies differ: {', '.join(unchecked)}")

    async def start(self, tx: Tx, process: Process) -> None:
        """A new instance of the process's template, run until it waits."""
        instance = self.templates[process.template].start({})
        _note(process, instance)
        await store.insert(tx.session, process)
        with tx.story(process.correlation_id):
            tx.record("process.started", process.endpoint, unit=process.unit, process_id=str(process.id),
                      template=process.template, model=process.model, version=process.version)  # fmt: skip
        await self._go_on(tx, process, instance)

    async def post(self, tx: Tx, process_id: UUID, message: str, payload: dict[str, Any]) -> None:
        """Put a message into the mailbox of a process and let it go on; an ended process takes no mail."""
        process = await store.lock(tx.session, process_id)
        if process and process.state == "running":
            await store.post(tx.session, process_id, message, payload)
            await self._go_on(tx, process, Instance.restored(process.workflow))

    async def leave(self, tx: Tx, process_id: UUID, message: str, payload: dict[str, Any]) -> None:
        """Put a message into a process's mailbox and let the timers' job move it on: one that fails stops no other."""
        process = await store.lock(tx.session, process_id)
        if process and process.state == "running":
            await store.post(tx.session, process_id, message, payload)
            await store.due_now(tx.session, process_id)

    async def decided(self, tx: Tx, process: Process, task: str, result: Mapping[str, Any]) -> None:
        """A person did their task. The process is locked by the caller. Raises LookupError when it is not there."""
        instance = Instance.restored(process.workflow)
        work = next((w for w in instance.work if w.id == task and w.kind == "person"), None)
        if work is None:
            raise LookupError(f"process {process.id} does not wait for {task}")
        instance.complete(work, result)
        await self._go_on(tx, process, instance)

    async def wake(self, tx: Tx, process_id: UUID) -> None:
        """Let the timers of a process fire that are due."""
        process = await store.lock(tx.session, process_id)
        if process and process.state == "running":
            instance = Instance.restored(process.workflow)
            instance.wake()
            await self._go_on(tx, process, instance)

    async def _go_on(self, tx: Tx, process: Process, instance: Instance) -> None:
        """Whoever moves a process on, what it says belongs to its own story."""
        with tx.story(process.correlation_id):
            await self._advance(tx, process, instance)

    async def _advance(self, tx: Tx, process: Process, instance: Instance) -> None:
        await self._do_work(tx, process, instance)
        while mail := await store.take(tx.session, process.id, instance.awaits):
            instance.deliver(*mail)
            await self._do_work(tx, process, instance)
        _note(process, instance)
        if process.state == "ended":
            await store.empty(tx.session, process.id)
            tx.record("process.ended", process.endpoint, unit=process.unit, process_id=str(process.id),
                      template=process.template, model=process.model, version=process.version,
                      outcome=process.outcome, reason=_reason(instance))  # fmt: skip
            for ending in self._endings:
                await ending(tx, process)
        await store.save(tx.session, process)
        if await store.freed(tx.session, process.id):
            resolve_alert(tx, STUCK, str(process.id), "the process moved on", unit=EVERY_UNIT)

    async def _do_work(self, tx: Tx, process: Process, instance: Instance) -> None:
        while work := [w for w in instance.work if w.kind != "person"]:
            instance.complete(work[0], await self._result(tx, process, instance, work[0]))
        for task in instance.work:
            await self._asks[task.id](tx, process, instance.data)

    async def _result(self, tx: Tx, process: Process, instance: Instance, work: Work) -> Mapping[str, Any]:
        if work.kind == "gate":
            verdicts = self.policies.judge(work.id, process.facts)
            return {work.id: [gate.model_dump(mode="json") for gate in verdicts]}
        return await self._operations[work.id](tx, process, instance.data)


def _note(process: Process, instance: Instance) -> None:
    """Write the instance's state into its row."""
    process.workflow = instance.state()
    process.awaits = sorted(instance.awaits)
    process.due = instance.due
    if instance.ended:
        process.state, process.outcome, process.ended_at = "ended", instance.outcome, now()


def _reason(instance: Instance) -> str | None:
    """Why it ended as it did, in the words of whoever said what ended it; what was said last comes first."""
    for message in (
        "deployment_settled", "approval_revoked", "model_retired", "candidate_refused", "retraining_completed",
    ):  # fmt: skip
        told = instance.data.get(message)
        if isinstance(told, Mapping) and told.get("reason"):
            return str(told["reason"])
    return None

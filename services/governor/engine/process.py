"""A BPMN process, run by SpiffWorkflow with CEL as its only language; the host does the work of its service tasks."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]: C extension without stubs
from SpiffWorkflow.bpmn.exceptions import WorkflowTaskException
from SpiffWorkflow.bpmn.parser.BpmnParser import BpmnParser, BpmnValidator
from SpiffWorkflow.bpmn.parser.node_parser import DEFAULT_NSMAP
from SpiffWorkflow.bpmn.parser.TaskParser import TaskParser
from SpiffWorkflow.bpmn.parser.util import full_tag
from SpiffWorkflow.bpmn.parser.ValidationException import ValidationException
from SpiffWorkflow.bpmn.script_engine.python_engine import PythonScriptEngine
from SpiffWorkflow.bpmn.script_engine.python_environment import BasePythonScriptEngineEnvironment
from SpiffWorkflow.bpmn.serializer.config import DEFAULT_CONFIG
from SpiffWorkflow.bpmn.serializer.default.task_spec import BpmnTaskSpecConverter
from SpiffWorkflow.bpmn.serializer.workflow import BpmnWorkflowSerializer
from SpiffWorkflow.bpmn.specs.defaults import EndEvent, UserTask
from SpiffWorkflow.bpmn.specs.event_definitions.message import MessageEventDefinition
from SpiffWorkflow.bpmn.specs.event_definitions.multiple import MultipleEventDefinition
from SpiffWorkflow.bpmn.specs.event_definitions.timer import TimerEventDefinition
from SpiffWorkflow.bpmn.util.event import BpmnEvent
from SpiffWorkflow.bpmn.workflow import BpmnWorkflow
from SpiffWorkflow.util.task import TaskState

from services.kit import cel

# Every change of every task's state would be a line in the service's log.
logging.getLogger("spiff").setLevel(logging.WARNING)


class CelEnvironment(BasePythonScriptEngineEnvironment):
    """Evaluates CEL over a task's data. SpiffWorkflow's own environment runs Python: that door stays shut."""

    def evaluate(self, expression: str, context: dict[str, Any], external_context: Any = None) -> Any:
        return cel.evaluate(expression.strip(), context)

    def execute(self, script: str, context: dict[str, Any], external_context: Any = None) -> bool:
        """A script is one CEL expression whose value is a map, merged into the task's data."""
        value = cel.evaluate(script.strip(), context)
        if not isinstance(value, dict):
            raise cel.CelError(f"a script must be a map, `{script.strip()[:100]}` is not")
        context.update(value)
        return True

    def call_service(self, context: dict[str, Any], **kwargs: Any) -> Any:
        raise cel.CelError("a diagram calls no service: its host does the work of service tasks")


class GateTask(UserTask):
    """A business rule task: the host judges the policies of this gate."""


class HostTask(UserTask):
    """A service task: the host does the work that the task's id names."""


class _Parser(BpmnParser):
    OVERRIDE_PARSER_CLASSES = {
        full_tag("serviceTask"): (TaskParser, HostTask),
        full_tag("businessRuleTask"): (TaskParser, GateTask),
    }


_SERIALIZER = BpmnWorkflowSerializer(
    BpmnWorkflowSerializer.configure(
        {**DEFAULT_CONFIG, GateTask: BpmnTaskSpecConverter, HostTask: BpmnTaskSpecConverter}
    )
)
_ENGINE = PythonScriptEngine(CelEnvironment())
_NO_ENTITIES = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)


class BadTemplate(ValueError):
    """A diagram that is no valid BPMN 2.0, or that asks for what this engine does not do."""


@dataclass(frozen=True)
class Template:
    """A life cycle as an architect drew it."""

    name: str
    title: str
    xml: str
    _spec: Any
    _parts: Any

    @property
    def gates(self) -> frozenset[str]:
        """The gates that this template checks."""
        return frozenset(n for n, spec in self._spec.task_specs.items() if isinstance(spec, GateTask))

    @property
    def host_tasks(self) -> frozenset[str]:
        """The ids of the service tasks: the governor has to do these."""
        return frozenset(n for n, spec in self._spec.task_specs.items() if isinstance(spec, HostTask))

    def start(self, data: Mapping[str, Any]) -> "Instance":
        """A new instance, advanced to its first work."""
        workflow = BpmnWorkflow(self._spec, self._parts, script_engine=_ENGINE)
        first: Any = workflow.get_next_task(state=TaskState.READY)
        first.set_data(**data)
        return Instance(workflow).advanced()


def parse(name: str, xml: bytes) -> Template:
    """Read one diagram. Raises BadTemplate with the reason."""
    parser = _Parser(validator=BpmnValidator())
    try:
        document = etree.parse(BytesIO(xml), _NO_ENTITIES)
        parser.add_bpmn_xml(document, f"{name}.bpmn")
        identifiers = parser.get_process_ids()
        if len(identifiers) != 1:
            raise BadTemplate(f"{name}: one executable process is expected, found {len(identifiers)}")
        spec = parser.get_spec(identifiers[0])
        parts = parser.get_subprocess_specs(identifiers[0])
    except (ValidationException, etree.XMLSyntaxError) as error:
        raise BadTemplate(f"{name}: {error}") from None
    title = document.xpath("string(//bpmn:process/@name)", namespaces=DEFAULT_NSMAP)
    return Template(name, str(title) or name, xml.decode(), spec, parts)


def load(folder: Path) -> dict[str, Template]:
    """Every template of a folder, by its file's name."""
    return {path.stem: parse(path.stem, path.read_bytes()) for path in sorted(folder.glob("*.bpmn"))}


@dataclass(frozen=True)
class Work:
    """Something that the process waits for its host, or a person, to do."""

    id: str
    """The task's id in the diagram."""
    kind: Literal["gate", "host", "person"]
    task: Any


@dataclass(frozen=True)
class Step:
    """One element of the diagram that the process went through or stands at."""

    id: str
    name: str
    state: Literal["done", "waiting", "cancelled"]
    at: datetime


class Instance:
    """One running process. Its state is JSON; nothing of it lives elsewhere."""

    def __init__(self, workflow: BpmnWorkflow) -> None:
        self._workflow = workflow

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Instance":
        """An instance as `state` kept it."""
        workflow: Any = _SERIALIZER.from_dict(state)
        workflow.script_engine = _ENGINE
        return cls(workflow)

    def state(self) -> dict[str, Any]:
        """All of the instance as plain JSON."""
        state: Any = _SERIALIZER.to_dict(self._workflow)
        return state

    def advanced(self) -> "Instance":
        """Go on until the process waits. Raises CelError for an expression that cannot be evaluated."""
        try:
            self._workflow.do_engine_steps()
        except WorkflowTaskException as error:
            raise cel.CelError(str(error)) from error
        return self

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return bool(self._workflow.is_completed())

    @property
    def outcome(self) -> str | None:
        """The id of the end event that the process reached."""
        ends = [t for t in self._tasks(TaskState.COMPLETED) if isinstance(t.task_spec, EndEvent)]
        return ends[-1].task_spec.name if ends and self.ended else None

    @property
    def work(self) -> list[Work]:
        """What is to be done now by the host or by a person."""
        found = [t for t in self._tasks(TaskState.READY) if isinstance(t.task_spec, UserTask)]
        return [Work(t.task_spec.name, _kind(t), t) for t in found]

    @property
    def awaits(self) -> frozenset[str]:
        """The names of the messages that the process waits for."""
        definitions = [d for task in self._listening() for d in _definitions(task)]
        return frozenset(str(d.name) for d in definitions if isinstance(d, MessageEventDefinition))

    @property
    def due(self) -> datetime | None:
        """When the next timer fires."""
        times = [
            task.internal_data.get("event_value")
            for task in self._listening()
            if any(isinstance(d, TimerEventDefinition) for d in _definitions(task))
        ]
        moments = [datetime.fromisoformat(t) for t in times if isinstance(t, str)]
        return min(moments, default=None)

    def complete(self, work: Work, result: Mapping[str, Any]) -> None:
        """Finish a piece of work with its result and go on."""
        work.task.set_data(**result)
        work.task.run()
        self.advanced()

    def deliver(self, message: str, payload: Mapping[str, Any]) -> None:
        """Hand over a message that the process awaits. Raises LookupError when it does not: it would be dropped."""
        if message not in self.awaits:
            raise LookupError(f"the process does not wait for {message}")
        event = BpmnEvent(MessageEventDefinition(message), {message.replace(".", "_"): dict(payload)})
        self._workflow.send_event(event)
        self.advanced()

    def wake(self) -> None:
        """Let timers that are due fire."""
        self._workflow.refresh_timers()
        self.advanced()

    @property
    def data(self) -> dict[str, Any]:
        """The facts of the process as its furthest task knows them."""
        return dict(self._workflow.data) if self.ended else _merged(self._tasks(TaskState.READY | TaskState.WAITING))

    @property
    def steps(self) -> list[Step]:
        """The way through the diagram so far, in order of time."""
        drawn = [task for task in self._tasks(_SEEN) if _is_drawn(task)]
        return [_step(task) for task in sorted(drawn, key=lambda task: task.last_state_change)]

    def _listening(self) -> list[Any]:
        return list(self._workflow.event_manager.tasks.values())

    def _tasks(self, state: int) -> list[Any]:
        return list(self._workflow.get_tasks(state=state))


_SEEN = TaskState.COMPLETED | TaskState.READY | TaskState.WAITING | TaskState.CANCELLED


def _is_drawn(task: Any) -> bool:
    # A cancelled task of a person is part of the story; a join or a boundary event that was never needed is not.
    if task.state == TaskState.CANCELLED and not isinstance(task.task_spec, UserTask):
        return False
    return task.task_spec.bpmn_id is not None


def _definitions(task: Any) -> list[Any]:
    definition = task.task_spec.event_definition
    return definition.event_definitions if isinstance(definition, MultipleEventDefinition) else [definition]


def _kind(task: Any) -> Literal["gate", "host", "person"]:
    if isinstance(task.task_spec, GateTask):
        return "gate"
    return "host" if isinstance(task.task_spec, HostTask) else "person"


def _merged(tasks: list[Any]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for task in tasks:
        data |= task.data
    return data


def _step(task: Any) -> Step:
    states: dict[int, Literal["done", "waiting", "cancelled"]] = {
        TaskState.COMPLETED: "done",
        TaskState.CANCELLED: "cancelled",
    }
    spec = task.task_spec
    at = datetime.fromtimestamp(task.last_state_change).astimezone()
    return Step(spec.bpmn_id, spec.bpmn_name or spec.bpmn_id, states.get(task.state, "waiting"), at)

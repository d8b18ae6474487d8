"""Makes topics, principals and access rights in Kafka as the contracts name them: `python -m services.kit.provision`.

The deployer uses the same functions for the topics of an endpoint that streams. Everything here can be repeated.
"""

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from contracts import EVENTS, Topic

from . import properties
from .deadletters import LARGEST_LETTER
from .errors import Conflict, Refusal, Unavailable
from .rights import DEAD_LETTERS_KEPT, PRINCIPALS, Right, all_rights, withdrawn_rights

_REQUEST_S = 30.0
_ALREADY_THERE = KafkaError.TOPIC_ALREADY_EXISTS
_NOT_THERE = KafkaError.UNKNOWN_TOPIC_OR_PART
_FORBIDDEN = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
})  # fmt: skip
_REFUSALS = _FORBIDDEN | {
    KafkaError.TOPIC_EXCEPTION, KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG, KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_REQUEST, KafkaError.UNSUPPORTED_VERSION, KafkaError._INVALID_ARG,
}  # fmt: skip
"""What no second try helps. All else passes: too few brokers for the replication factor, too, while one is down."""
_MECHANISMS = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}

Properties = Mapping[str, str]


_ROLLS_MS = 24 * 3600 * 1000


class ProvisionError(Refusal):
    """Kafka cannot be provisioned; the message says why and what to do."""


class ProvisionAway(ProvisionError, Unavailable):
    """Kafka is not there, or moves: the same again may do."""


class ProvisionRefused(ProvisionError, Conflict):
    """Kafka will not have it so: the same again is refused again, until a person changes something."""


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it shall be."""

    name: str
    partitions: int
    keep_ms: int | None
    compacted: bool = False
    largest: int | None = None
    """Bytes of the largest record; None: the cluster's own bound."""

    @classmethod
    def of(cls, topic: Topic, endpoint: str | None = None) -> "TopicSpec":
        """The topic of a contract; for one that exists per endpoint, that endpoint's."""
        keep_ms = int(topic.keep.total_seconds() * 1000) if topic.keep else None
        return cls(topic.of(endpoint) if endpoint else topic.name, topic.partitions, keep_ms, topic.compacted)

    @classmethod
    def dead_letters(cls, topic: str) -> "TopicSpec":
        """Where what cannot be handled of a topic goes."""
        return cls(f"dlq.{topic}", 1, int(DEAD_LETTERS_KEPT.total_seconds() * 1000), largest=LARGEST_LETTER)

    @property
    def config(self) -> dict[str, str]:
        """Its settings as the broker names them."""
        if self.compacted:
            # Small states that a restart reads from the start: clean often.
            return {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "3600000"}
        largest = {} if self.largest is None else {"max.message.bytes": str(self.largest)}
        keep = {"cleanup.policy": "delete", "retention.ms": str(-1 if self.keep_ms is None else self.keep_ms)}
        return keep | ({"segment.ms": str(self.rolls_ms)} if self.rolls_ms else {}) | largest

    @property
    def rolls_ms(self) -> int | None:
        """How long a file of the topic is written to. Kafka deletes whole files, the last record of which is old
        enough: so much longer than `keep_ms` a record may lie there."""
        return None if self.keep_ms is None else min(_ROLLS_MS, self.keep_ms // 4)


def read_properties(path: Path) -> dict[str, str]:
    """Client properties as librdkafka takes them. Raises ProvisionError."""
    try:
        given = properties.read(path)
    except OSError as error:
        raise ProvisionError(f"cannot read the Kafka client properties {path}: {error.strerror}") from None
    if not given.get("bootstrap.servers"):
        raise ProvisionError(f"{path} names no bootstrap.servers")
    return given


def connect(properties: Properties, within_s: float = 10) -> AdminClient:
    """An administrator's client that has reached the cluster. Raises ProvisionError, ProvisionAway."""
    said: list[KafkaError] = []
    quiet: dict[str, Any] = {"log_level": 0, "error_cb": said.append, "reconnect.backoff.max.ms": 250}
    try:
        admin = AdminClient({**quiet, **properties})
    except (KafkaException, ValueError) as error:
        why = error.args[0].str() if isinstance(error, KafkaException) else error
        raise ProvisionError(f"these Kafka client properties are not valid: {why}") from None
    try:
        admin.list_topics(timeout=within_s)
    except KafkaException as error:
        admin.poll(0.1)  # hands the reasons over
        reasons = dict.fromkeys(_plain(reason) for reason in said if reason.code() != KafkaError._ALL_BROKERS_DOWN)
        why = "; ".join(list(reasons)[-2:]) or _plain(error.args[0])
        raise ProvisionAway(f"Kafka at {properties['bootstrap.servers']} cannot be used: {why}") from None
    return admin


def contract_topics() -> list[TopicSpec]:
    """Every topic that exists once, with its dead letters. Those of endpoints are made when they start to stream."""
    shared = [event.topic for event in EVENTS if not event.topic.per_endpoint]
    requested = [event.topic for event in EVENTS if event.topic.per_endpoint and event.topic.open]
    return [
        *(TopicSpec.of(topic) for topic in shared),
        *(TopicSpec.dead_letters(topic.name) for topic in [*shared, *requested]),
    ]


def endpoint_topics(endpoint: str) -> list[TopicSpec]:
    """The pair of topics of a streaming endpoint, and the dead letters of its requests."""
    pair = [event.topic for event in EVENTS if event.topic.per_endpoint]
    return [
        *(TopicSpec.of(topic, endpoint) for topic in pair),
        *(TopicSpec.dead_letters(topic.of(endpoint)) for topic in pair if topic.open),
    ]


def ensure_topics(properties: Properties | AdminClient, topics: Sequence[TopicSpec]) -> list[str]:
    """Create topics and bring the settings of existing ones to their contract. Answers the names of the new ones."""
    admin = _admin(properties)
    # The number of copies is the cluster's own default: one here, three elsewhere.
    new = [NewTopic(topic.name, topic.partitions, -1, config=topic.config) for topic in topics]
    made = [name for name, error in _settle(admin.create_topics(new, request_timeout=_REQUEST_S)) if error is None]
    _bring_to_contract(admin, [topic for topic in topics if topic.name not in made])
    return made


def _bring_to_contract(admin: AdminClient, topics: Sequence[TopicSpec]) -> None:
    wanted = {ConfigResource(ConfigResource.Type.TOPIC, topic.name): topic.config for topic in topics}
    if not wanted:
        return
    differing: list[ConfigResource] = []
    for resource, future in admin.describe_configs(list(wanted), request_timeout=_REQUEST_S).items():
        found = _answer(future)
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in wanted[resource].items()
            if found[name].value != value
        ]
        if changes:
            differing.append(ConfigResource(resource.restype, resource.name, incremental_configs=changes))
    if differing:
        _settle(admin.incremental_alter_configs(differing, request_timeout=_REQUEST_S))


def delete_topics(properties: Properties | AdminClient, names: Sequence[str]) -> None:
    """Delete topics; those that are gone already are no error."""
    if names:
        _settle(_admin(properties).delete_topics(list(names), request_timeout=_REQUEST_S), pardon=_NOT_THERE)


def ensure_acls(properties: Properties | AdminClient, rights: Iterable[Right]) -> None:
    """Give rights and wait until they hold. A cluster without an authorizer takes none: there everybody may all."""
    admin, bindings = _admin(properties), [_binding(right) for right in rights]
    if not bindings:
        return
    answers = _settle(admin.create_acls(bindings, request_timeout=_REQUEST_S))
    deadline = time.monotonic() + _REQUEST_S
    while all(error is None for _, error in answers) and not set(bindings) <= set(_standing_acls(admin)):
        if time.monotonic() > deadline:
            raise ProvisionAway(f"Kafka took the access rights but does not apply them after {_REQUEST_S:.0f} s")
        time.sleep(0.1)  # the controller answers before the broker has heard


def _standing_acls(admin: AdminClient) -> list[AclBinding]:
    every = AclBindingFilter(
        ResourceType.ANY,
        cast(str, None),
        ResourcePatternType.ANY,
        cast(str, None),
        cast(str, None),
        AclOperation.ANY,
        AclPermissionType.ANY,
    )  # None: any, which the client's types do not say
    return list(_answer(admin.describe_acls(every, request_timeout=_REQUEST_S)))


def delete_acls(properties: Properties | AdminClient, rights: Iterable[Right]) -> None:
    """Take rights back."""
    filters = [_filter(right) for right in rights]
    if filters:
        _settle(_admin(properties).delete_acls(filters, request_timeout=_REQUEST_S))


def delete_topic_acls(properties: Properties | AdminClient, topics: Iterable[str]) -> None:
    """Take back every right that was given on exactly these topics, to whomever; those on prefixes stay."""
    filters = [
        AclBindingFilter(
            ResourceType.TOPIC,
            topic,
            ResourcePatternType.LITERAL,
            cast(str, None),
            cast(str, None),
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for topic in topics
    ]  # None: any, which the client's types do not say
    if filters:
        _settle(_admin(properties).delete_acls(filters, request_timeout=_REQUEST_S))


def ensure_users(admin: AdminClient, mechanism: str, passwords: Mapping[str, str]) -> None:
    """Give principals their passwords, where the cluster keeps them (SCRAM)."""
    credential = ScramCredentialInfo(_MECHANISMS[mechanism], 4096)
    changes = [UserScramCredentialUpsertion(user, credential, word.encode()) for user, word in passwords.items()]
    asked = cast(list[UserScramCredentialAlteration], changes)
    _settle(admin.alter_user_scram_credentials(asked, request_timeout=_REQUEST_S))


def _plain(error: KafkaError) -> str:
    """librdkafka's sentence without its addresses and timings, which differ at each try."""
    return error.str().split(": ", 1)[-1].split(" (after ")[0]


def _admin(given: Properties | AdminClient) -> AdminClient:
    return given if isinstance(given, AdminClient) else connect(given)


def _answer(future: "Future[Any]") -> Any:
    try:
        return future.result()
    except KafkaException as failure:
        raise _failure("its settings and rights", failure.args[0]) from None


def _failure(asked: Any, error: KafkaError) -> ProvisionError:
    if error.code() in _FORBIDDEN:  # some brokers answer with their whole request
        return ProvisionRefused(f"Kafka refuses {asked}: this login has no right to make it")
    if error.code() in _REFUSALS:
        return ProvisionRefused(f"Kafka refuses {asked}: {error.str()[:500]}")
    return ProvisionAway(f"Kafka cannot do {asked} now: {_plain(error)}")


def _settle(futures: Mapping[Any, "Future[Any]"], pardon: int = _ALREADY_THERE) -> list[tuple[Any, KafkaError | None]]:
    """Wait for every answer. Raises ProvisionRefused or ProvisionAway for the first error that is not pardoned."""
    answers: list[tuple[Any, KafkaError | None]] = []
    for asked, future in futures.items():
        try:
            future.result()
            answers.append((asked, None))
        except KafkaException as failure:
            error = cast(KafkaError, failure.args[0])
            if error.code() not in (pardon, KafkaError.SECURITY_DISABLED):
                raise _failure(asked, error) from None
            answers.append((asked, error))
    return answers


def _binding(right: Right) -> AclBinding:
    return AclBinding(*_shape(right), f"User:{right.principal}", "*", _operation(right), AclPermissionType.ALLOW)


def _filter(right: Right) -> AclBindingFilter:
    return AclBindingFilter(*_shape(right), f"User:{right.principal}", "*", _operation(right), AclPermissionType.ALLOW)


def _shape(right: Right) -> tuple[ResourceType, str, ResourcePatternType]:
    kinds = {
        "topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "cluster": ResourceType.BROKER,
        "transactional_id": ResourceType.TRANSACTIONAL_ID,
    }  # fmt: skip
    pattern = ResourcePatternType.PREFIXED if right.prefix else ResourcePatternType.LITERAL
    return kinds[right.kind], right.name, pattern


def _operation(right: Right) -> AclOperation:
    return AclOperation[right.operation.upper()]


def provision(properties: Properties, passwords: Mapping[str, str], within_s: float = 10) -> list[str]:
    """Everything that the contracts ask of a cluster. Answers the names of the new topics."""
    admin = connect(properties, within_s)
    mechanism = properties.get("sasl.mechanism") or properties.get("sasl.mechanisms") or ""
    if passwords and mechanism in _MECHANISMS:
        ensure_users(admin, mechanism, passwords)
    made = ensure_topics(admin, contract_topics())
    ensure_acls(admin, all_rights())
    delete_acls(admin, withdrawn_rights())
    return made


def main() -> None:
    """Provision the cluster of `FAIRLEAD_KAFKA_PROPERTIES` for the principals that `FAIRLEAD_HOME` holds."""
    home = Path(os.environ.get("FAIRLEAD_HOME") or ".fairlead")
    named = os.environ.get("FAIRLEAD_KAFKA_PROPERTIES")
    try:
        if not named:
            raise ProvisionError("FAIRLEAD_KAFKA_PROPERTIES names no file: give an administrator's client properties")
        within_s = float(os.environ.get("FAIRLEAD_KAFKA_WITHIN_S") or 10)
        made = provision(read_properties(Path(named)), _passwords(home), within_s)
    except ProvisionError as error:
        sys.exit(f"error: {error}")
    print(f"{len(made)} topics made, all as the contracts say")


def _passwords(home: Path) -> dict[str, str]:
    folders = (home / "secrets" / "kafka", home / "kafka")
    paths = {name: path for name in PRINCIPALS for f in folders if (path := f / f"{name}.properties").exists()}
    found = {name: read_properties(path) for name, path in paths.items()}
    # A cluster that keeps no passwords for us gets one login for all: nothing to make then.
    return {name: p["sasl.password"] for name, p in found.items() if p.get("sasl.username") == name}


if __name__ == "__main__":
    main()

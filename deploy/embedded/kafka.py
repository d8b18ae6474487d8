"""Apache Kafka on one node: broker and controller in one process, with passwords and access rights."""

import os
import subprocess
from pathlib import Path

from . import jvm
from .home import Home, write_private
from .part import Part, listening
from .problem import Problem
from .secrets import CONTROLLER, LAUNCHER, read_client_properties

CLUSTER_ID = "fairlead-embedded-node"  # any 22 characters: one installation is one cluster

# Small machines start a broker with these in four seconds and 330 MB.
JVM = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "--sun-misc-unsafe-memory-access=allow",
)

_UTF_8 = {"LC_ALL": "C.UTF-8"}
"""Otherwise Java cannot name a file whose path is not plain ASCII."""

_PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="{user}" password="{password}"'
_SCRAM = 'org.apache.kafka.common.security.scram.ScramLoginModule required username="{user}" password="{password}";'


def part(home: Home) -> Part:
    """The broker, formatted if it is new. Raises Problem."""
    config = _write_config(home)
    jars, log4j = jvm.jars(), Path(__file__).with_name("log4j2.xml")
    java = (str(jvm.java()), *JVM, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{jars}/*")
    _format(home, java, config)
    return Part(
        name="kafka",
        argv=(*java, "kafka.Kafka", str(config)),
        environment=_UTF_8,
        log=home.logs / "kafka.log",
        ready=lambda _: listening(home.kafka_port),
        address=f"127.0.0.1:{home.kafka_port}",
        stop_within_s=30,
    )


def _format(home: Home, java: tuple[str, ...], config: Path) -> None:
    """Lay out the data folder and the launcher's own password; the others are made by `services.kit.provision`."""
    if (home.data / "kafka" / "meta.properties").exists():
        return
    password = read_client_properties(home, LAUNCHER)["sasl.password"]
    # The tool takes options from a file only by a shell; its arguments are seen by other users for a second.
    scram = f"SCRAM-SHA-256=[name={LAUNCHER},password={password}]"
    tool = ("kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config", str(config))
    done = subprocess.run(
        [*java, *tool, "--ignore-formatted", "--add-scram", scram],
        capture_output=True, text=True, check=False, env={**os.environ, **_UTF_8},
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Problem(
            f"Kafka's data folder {home.data / 'kafka'} cannot be laid out: {said[-1] if said else 'no reason given'}",
            "Look for a full disk or missing rights; a folder without anything you need can be removed.",
        )


def _write_config(home: Home) -> Path:
    path = home.secrets / "kafka" / "server.properties"
    write_private(path, "".join(f"{name}={_escaped(value)}\n" for name, value in _config(home).items()))
    return path


def _escaped(value: str) -> str:
    """As Java reads properties: Latin-1, and everything else by its UTF-16 units."""
    units = value.encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(chr(code) if 32 <= code < 127 and code != ord("\\") else f"\\u{code:04x}" for code in codes)


def _config(home: Home) -> dict[str, str]:
    launcher = read_client_properties(home, LAUNCHER)["sasl.password"]
    controller = (home.secrets / "kafka" / "controller.password").read_text().strip()
    plain = _PLAIN.format(user=CONTROLLER, password=controller) + f' user_{CONTROLLER}="{controller}";'
    client, quorum = f"127.0.0.1:{home.kafka_port}", f"127.0.0.1:{home.controller_port}"
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{quorum}",
        "listeners": f"CLIENT://{client},CONTROLLER://{quorum}",
        "advertised.listeners": f"CLIENT://{client}",
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-256",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.client.scram-sha-256.sasl.jaas.config": _SCRAM.format(user=LAUNCHER, password=launcher),
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": plain,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{LAUNCHER};User:{CONTROLLER}",
        "allow.everyone.if.no.acl.found": "false",
        "log.dirs": str(home.data / "kafka"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "8",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "log.segment.bytes": str(128 * 1024 * 1024),
        "log.index.size.max.bytes": str(1024 * 1024),
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "offsets.retention.minutes": str(60 * 24 * 30),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": str(os.cpu_count() or 1),
        # A killed broker may register again only when its earlier session ended.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1000",
    }

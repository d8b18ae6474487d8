"""What Kafka will not have is told apart from a Kafka that is not there now."""

from pathlib import Path

import pytest

from services.kit.away import is_away
from services.kit.provision import (
    ProvisionAway,
    ProvisionError,
    ProvisionRefused,
    TopicSpec,
    connect,
    ensure_acls,
    ensure_topics,
    ensure_users,
    read_properties,
)
from services.kit.rights import Right


def spec(name: str) -> TopicSpec:
    return TopicSpec(name, 1, 60_000)


def test_a_name_that_no_topic_can_have_is_refused(kafka: Path) -> None:
    with pytest.raises(ProvisionRefused, match="no topic has this") as refused:
        ensure_topics(connect(read_properties(kafka)), [spec("no topic has this")])
    assert not is_away(refused.value)


def test_who_may_not_is_refused(kafka: Path, home: Path) -> None:
    stranger = connect(read_properties(home / "kafka" / "application.properties"))
    with pytest.raises(ProvisionRefused, match="not-for-applications: this login has no right to make it"):
        ensure_topics(stranger, [spec("not-for-applications")])
    with pytest.raises(ProvisionRefused, match="catalog: this login has no right to make it"):
        ensure_users(stranger, "SCRAM-SHA-256", {"catalog": "secret"})
    with pytest.raises(ProvisionRefused, match="this login has no right to make it"):
        ensure_acls(stranger, [Right("application", "read", "topic", "inference.logged")])


def test_a_cluster_that_is_not_there_is_away() -> None:
    with pytest.raises(ProvisionAway) as away:
        connect({"bootstrap.servers": "127.0.0.1:1"}, within_s=0.5)
    assert is_away(away.value)


def test_properties_that_nobody_can_use_are_no_absence(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError) as missing:
        read_properties(tmp_path / "none.properties")
    with pytest.raises(ProvisionError) as wrong:
        connect({"bootstrap.servers": "127.0.0.1:1", "security.protocol": "nobody knows"})
    assert not is_away(missing.value)
    assert not is_away(wrong.value)
    assert str(wrong.value).endswith('Invalid value "nobody knows" for configuration property "security.protocol"')

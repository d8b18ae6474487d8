"""Connections: where this platform may call, and nowhere else."""

import logging
import os
import threading
from pathlib import Path
from typing import Any

import obstore
import pytest
import yaml
from obstore.store import from_url

from services.kit.connections import Connections, HttpsConnection, ObjectsConnection
from services.kit.connections.files import fetch, listed, put
from services.kit.errors import Invalid, TooLarge, Unavailable
from services.kit.settings import Settings


def written(home: Path, *entries: dict[str, Any]) -> Connections:
    """The connections of a home whose file has these entries."""
    home.mkdir(exist_ok=True)
    (home / "connections.yaml").write_text(yaml.safe_dump({"connections": list(entries)}))
    return Connections.of(Settings(home=home))


def server(**more: Any) -> dict[str, Any]:
    return {"name": "ratings", "kind": "https", "url": "https://ratings.example/v2"} | more


def mail(**more: Any) -> dict[str, Any]:
    said = {"name": "mail", "kind": "smtp", "url": "smtp://mail.example", "sender": "fairlead@bank.example"}
    return said | {"recipients": ["*@bank.example", "duty@partner.example"]} | more


def store(**more: Any) -> dict[str, Any]:
    return {"name": "incoming", "kind": "objects", "url": "s3://bucket/rows"} | more


def test_without_a_file_nothing_is_approved(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no server ratings is approved for unit retail"):
        Connections.of(Settings(home=tmp_path)).https("ratings", "retail")


def test_a_connection_serves_the_units_that_it_names_and_is_unknown_to_others(tmp_path: Path) -> None:
    connections = written(tmp_path, server(units=["retail"]), server(name="open"))
    assert connections.https("ratings", "retail").at("/models/x/infer") == "https://ratings.example/v2/models/x/infer"
    assert connections.https("open", "risk")
    with pytest.raises(Invalid) as strange:
        connections.https("ratings", "risk")
    with pytest.raises(Invalid) as unknown:
        connections.https("nothing", "risk")
    assert strange.value.message.replace("ratings", "nothing") == unknown.value.message


def test_a_server_is_no_object_store(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no object store ratings"):
        written(tmp_path, server()).objects("ratings", "retail")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (server(url="http://ratings.example"), "url: must be https"),
        (server(url="http://127.0.0.1.ratings.example"), "url: must be https"),
        (server(url="https://user:secret@ratings.example"), "url: a login"),
        (server(url="https://ratings.example/?a=b"), "url: a query"),
        (server(url="ratings.example"), "url: is not a URL"),
        (server(headers={"Authorization": {"env": "A", "file": "/b"}}), "headers.Authorization"),
        (server(headers={"A b": "c"}), "headers"),
        (server(timeout_s=0), "timeout_s"),
        (server(timeout=3), "timeout"),
        (server(units=["Retail"]), r"units\.0"),
        (server(kind="ftp"), "kind"),
        (store(url="ftp://bucket"), "url: is none of s3"),
        (store(url="s3:///rows"), "url: names no bucket"),
        (store(url="file:///etc"), "url: /etc is not below"),
        (mail(url="https://mail.example"), "url: is not a URL such as smtp"),
        (mail(url="smtp://user@mail.example"), "url: login, path"),
        (mail(url="smtp://mail.example:99999"), "url: its port"),
        (mail(sender="Fairlead <fairlead@bank.example>"), "sender"),
        (mail(recipients=[]), "recipients"),
        (mail(recipients=["*"]), r"recipients\.0"),
        (mail(recipients=["*@*"]), r"recipients\.0"),
        (mail(password=["hidden"], username="a"), "password"),
        (store(endpoint="http://minio.example:9000"), "endpoint: must be https"),
    ],
)
def test_a_wrong_entry_is_refused_by_connection_and_field(entry: dict[str, Any], reason: str, tmp_path: Path) -> None:
    connections = written(tmp_path, entry, server(name="sound"))
    find = {"objects": connections.objects, "smtp": connections.smtp}.get(entry["kind"], connections.https)
    with pytest.raises(Unavailable, match=f"^connection {entry['name']}: {reason}"):
        find(entry["name"], "retail")
    assert connections.https("sound", "retail"), "one entry's error is no other's"


def test_mail_goes_to_whom_the_administrator_allowed(tmp_path: Path) -> None:
    found = written(tmp_path, mail()).smtp("mail", "retail")
    allowed = ("ops@bank.example", "ops@BANK.example", "duty@partner.example", "duty@Partner.Example")
    assert all(found.allows(address) for address in allowed)
    others = ("ops@evil.example", "ops@x.bank.example", "other@partner.example", "ops@bank.example@evil.example", "")
    assert not any(found.allows(address) for address in others)


def test_what_signs_is_read_where_it_lies_and_is_in_no_text(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("of-the-file\n")
    connections = written(
        tmp_path, server(), server(name="plain", signing="of-the-yaml"),
        server(name="filed", signing={"file": str(tmp_path / "key")}),
        server(name="lost", signing={"env": "NOWHERE_AT_ALL"}),
    )  # fmt: skip
    secrets = [connections.https(name, "retail").signing_secrets() for name in ("ratings", "plain", "filed")]
    assert secrets == [[], ["of-the-yaml"], ["of-the-file"]]
    with pytest.raises(Unavailable, match=r"connection lost: signing\.secret: the environment has no NOWHERE"):
        connections.https("lost", "retail").signing_secrets()
    assert "of-the-yaml" not in repr(connections.https("plain", "retail"))
    both = written(tmp_path, server(signing=["new", {"file": str(tmp_path / "key")}])).https("ratings", "retail")
    assert both.signing_secrets() == ["new", "of-the-file"]
    half = written(tmp_path, server(signing=["new", {"env": "NOWHERE_AT_ALL"}])).https("ratings", "retail")
    with pytest.raises(Unavailable, match=r"signing\.1: the environment has no NOWHERE"):
        half.signing_secrets()
    for wrong in ([], ["a", "b", "c"]):
        with pytest.raises(Unavailable, match="signing"):
            written(tmp_path, server(signing=wrong)).https("ratings", "retail")


def test_a_name_that_is_there_twice_is_neither(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="connection ratings: name: is there twice"):
        written(tmp_path, server(), server(url="https://other.example")).https("ratings", "retail")


def test_plain_http_reaches_this_machine_only(tmp_path: Path) -> None:
    for host in ("localhost:1", "127.0.0.1:1", "[::1]:1"):
        assert written(tmp_path, server(url=f"http://{host}/x")).https("ratings", "retail").url == f"http://{host}/x"


def test_secrets_come_from_environment_and_files_and_are_in_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("of-the-file\n")
    headers = {
        "Authorization": {"env": "RATINGS_TOKEN", "prefix": "Bearer "},
        "X-Key": {"file": str(tmp_path / "key")},
        "X-Plain": "of-the-yaml",
    }
    found = written(tmp_path, server(headers=headers)).https("ratings", "retail")
    with pytest.raises(Unavailable, match=r"connection ratings: headers\.Authorization: the environment has no RAT"):
        found.secrets()
    monkeypatch.setenv("RATINGS_TOKEN", "of-the-environment")
    assert found.secrets() == {
        "Authorization": "Bearer of-the-environment", "X-Key": "of-the-file", "X-Plain": "of-the-yaml",
    }  # fmt: skip
    assert "of-the-yaml" not in f"{found!r}{found}{found.model_dump_json()}"


def test_the_reason_of_a_refusal_holds_no_secret(tmp_path: Path) -> None:
    connections = written(tmp_path, server(headers={"Authorization": ["hidden"]}))
    with pytest.raises(Unavailable, match=r"headers\.Authorization") as refused:
        connections.https("ratings", "retail")
    assert "hidden" not in str(refused.value)


def test_a_change_of_the_file_counts_at_once_and_a_broken_one_leaves_what_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connections = written(tmp_path, server())
    assert connections.https("ratings", "retail")
    with caplog.at_level(logging.ERROR):
        (tmp_path / "connections.yaml").write_text("connections: [")
        assert connections.https("ratings", "retail")
    written(tmp_path, server(name="another"))
    with pytest.raises(Invalid):
        connections.https("ratings", "retail")
    (tmp_path / "connections.yaml").unlink()
    with pytest.raises(Invalid):
        connections.https("another", "retail")


def test_a_file_that_cannot_be_read_at_first_says_so(tmp_path: Path) -> None:
    for text, reason in (("connections: [", "connections.yaml: "), ("ratings: 1", "one member"), ("", "one member")):
        (tmp_path / "connections.yaml").write_text(text)
        with pytest.raises(Unavailable, match=reason):
            Connections.of(Settings(home=tmp_path)).https("ratings", "retail")


def test_the_file_and_the_folder_are_where_the_operator_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, server(), store(url=(tmp_path / "given" / "rows").as_uri()))
    (tmp_path / "connections.yaml").rename(tmp_path / "elsewhere.yaml")
    monkeypatch.setenv("FAIRLEAD_CONNECTIONS", str(tmp_path / "elsewhere.yaml"))
    monkeypatch.setenv("FAIRLEAD_CONNECTIONS_FOLDER", str(tmp_path / "given"))
    connections = Connections.of(Settings(home=tmp_path))
    assert connections.https("ratings", "retail")
    assert connections.objects("incoming", "retail")


def shared(tmp_path: Path) -> tuple[Path, ObjectsConnection]:
    """A folder with a file, as a connection."""
    folder = tmp_path / "shared" / "rows"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("1,2\n")
    return folder, written(tmp_path, store(url=folder.as_uri())).objects("incoming", "retail")


async def names(connection: ObjectsConnection, prefix: str = "") -> list[str]:
    return [found.path async for found in listed(connection, prefix)]


async def test_a_folder_is_an_object_store(tmp_path: Path) -> None:
    folder, connection = shared(tmp_path)
    version = await fetch(connection, "a.csv", tmp_path / "taken", 4)
    assert (tmp_path / "taken").read_text() == "1,2\n"
    (seen,) = [found async for found in listed(connection, "")]
    theirs = await obstore.head_async(from_url(folder.as_uri()), "a.csv")
    assert (seen.version, seen.bytes, seen.modified) == (version, 4, theirs["last_modified"])
    assert version == theirs["e_tag"], "files that were seen stay seen"
    await put(connection, "out/of/it.csv", tmp_path / "taken")
    assert (folder / "out/of/it.csv").read_text() == "1,2\n" and await names(connection, "out") == ["out/of/it.csv"]
    assert await names(connection) == ["a.csv", "out/of/it.csv"] and await names(connection, "nothing") == []
    with pytest.raises(TooLarge):
        await fetch(connection, "a.csv", tmp_path / "taken", 3)
    with pytest.raises(Invalid, match=r"has no b\.csv"):
        await fetch(connection, "b.csv", tmp_path / "taken", 4)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("file.csv", "link"),
        ("way/secret.csv", "link"),
        ("hard.csv", "another name"),
        ("pipe.csv", "no plain file"),
        ("folder", "no plain file"),
        ("a.csv/b.csv", "no folder"),
        ("back/a.csv", "link"),
    ],
)
async def test_no_link_is_followed_wherever_it_lies(path: str, reason: str, tmp_path: Path) -> None:
    folder, connection = shared(tmp_path)
    (outside := tmp_path / "outside").mkdir()
    (secret := outside / "secret.csv").write_text("secret")
    (folder / "file.csv").symlink_to(secret)
    (folder / "way").symlink_to(outside)
    (folder / "back").symlink_to(folder)
    (folder / "hard.csv").hardlink_to(secret)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.csv")
    assert await names(connection) == ["a.csv", "hard.csv"] and await names(connection, "way") == []
    with pytest.raises(Invalid, match=reason):
        await fetch(connection, path, tmp_path / "taken", 100)
    assert not (tmp_path / "taken").exists() or not (tmp_path / "taken").read_bytes()


async def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    folder, connection = shared(tmp_path)
    (outside := tmp_path / "outside").mkdir()
    (secret := outside / "secret.csv").write_text("secret")
    (folder / "way").symlink_to(outside)
    (folder / "file.csv").symlink_to(secret)
    with pytest.raises(Unavailable):
        await put(connection, "way/made.csv", folder / "a.csv")
    await put(connection, "file.csv", folder / "a.csv")
    assert secret.read_text() == "secret" and list(outside.iterdir()) == [secret]
    assert (folder / "file.csv").read_text() == "1,2\n" and not (folder / "file.csv").is_symlink()


async def test_a_folder_that_becomes_a_link_leads_nowhere(tmp_path: Path) -> None:
    """Whether it is exchanged before or while files are taken from it."""
    folder, connection = shared(tmp_path)
    (outside := tmp_path / "outside").mkdir()
    (outside / "a.csv").write_text("secret")
    (inner := folder / "inner").mkdir()
    (inner / "a.csv").write_text("rows")
    over = threading.Event()

    def exchange() -> None:
        while not over.is_set():
            inner.rename(folder / "aside")
            inner.symlink_to(outside)
            inner.unlink()
            (folder / "aside").rename(inner)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        seen = set[str]()
        for _ in range(300):
            try:
                await fetch(connection, "inner/a.csv", tmp_path / "taken", 100)
                seen.add((tmp_path / "taken").read_text())
            except Invalid:
                continue
    finally:
        over.set()
        thread.join()
    assert seen <= {"rows"}
    folder.rename(tmp_path / "shared" / "aside")
    folder.symlink_to(outside)
    with pytest.raises(Invalid, match="link"):
        await fetch(connection, "a.csv", tmp_path / "taken", 100)


def test_a_folder_that_is_a_link_out_of_the_allowed_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "rows").symlink_to("/etc")
    connections = written(tmp_path, store(url=(tmp_path / "shared" / "rows").as_uri()))
    with pytest.raises(Unavailable, match="is not below"):
        connections.objects("incoming", "retail")


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    found = written(tmp_path, store(url=(tmp_path / "shared" / "rows").as_uri())).objects("incoming", "retail")
    with pytest.raises(Unavailable, match="connection incoming: url: there is no folder"):
        found.files()


def test_a_bucket_takes_its_options_and_names_one_that_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCOMING_KEY", "hidden")
    options: dict[str, Any] = {"access_key_id": "me", "secret_access_key": {"env": "INCOMING_KEY"}}
    made = written(tmp_path, store(options=options, endpoint="http://127.0.0.1:9000"))
    opened = made.objects("incoming", "retail").store()
    assert "rows" in str(getattr(opened, "prefix", ""))
    with pytest.raises(Unavailable, match=r"connection incoming: options: .*colour") as refused:
        written(tmp_path, store(options=options | {"colour": "red"})).objects("incoming", "retail").store()
    assert "hidden" not in str(refused.value)


async def test_a_client_follows_nothing_and_asks_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    async with written(tmp_path, server(timeout_s=2)).https("ratings", "retail").client() as client:
        assert not client.follow_redirects
        assert client.timeout.read == 2
        assert client._mounts == {}


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    found = written(tmp_path, server(ca=str(tmp_path / "none.pem"))).https("ratings", "retail")
    with pytest.raises(Unavailable, match="connection ratings: ca: "):
        found.client()


def test_kinds(tmp_path: Path) -> None:
    connections = written(tmp_path, server(), store())
    assert isinstance(connections.https("ratings", "retail"), HttpsConnection)
    assert isinstance(connections.objects("incoming", "retail"), ObjectsConnection)

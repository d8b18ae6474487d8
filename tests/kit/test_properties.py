"""One way to read a properties file, for every client of Kafka."""

from pathlib import Path

from deploy.embedded.home import Home
from deploy.embedded.secrets import LAUNCHER, read_client_properties
from services.kit import properties
from services.kit.kafka import Connection
from services.kit.provision import read_properties


def test_every_reader_takes_blanks_comments_and_values_with_equals_signs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    path = home.client_properties(LAUNCHER)
    path.parent.mkdir(parents=True)
    path.write_text("# ours\n\n  bootstrap.servers = a:1,b:2 \n  # indented\nsasl.password=a=b==\n")
    expected = {"bootstrap.servers": "a:1,b:2", "sasl.password": "a=b=="}
    assert properties.read(path) == Connection.read(path).properties == read_properties(path) == expected
    assert read_client_properties(home, LAUNCHER) == expected

"""Properties files of Kafka clients, as Java and librdkafka take them."""

from pathlib import Path


def read(path: Path) -> dict[str, str]:
    """The properties of a file, without blanks around names and values. Raises OSError."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}

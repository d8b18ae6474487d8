"""What is uploaded when a model is registered: a file as it is, a folder as a zip."""

import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, cast

import orjson

from .errors import Invalid


@contextmanager
def opened(path: str | Path) -> Generator[tuple[str, IO[bytes]]]:
    """The name and bytes to send. Raises `Invalid` when there is nothing to read."""
    source = Path(path)
    if source.is_dir():
        if not any((source / name).is_file() for name in ("fairlead.yaml", "MLmodel")):
            said = "has no fairlead.yaml, which tells what its files are, and is no MLflow model"
            raise Invalid(f"{source} {said}", field="package")
        with TemporaryFile() as file:
            _zip(source, cast(IO[bytes], file))
            yield f"{source.resolve().name}.zip", cast(IO[bytes], file)
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise Invalid(f"cannot read {source}: {error.strerror}", field="package") from error
    with file:
        yield source.name, file


def _zip(folder: Path, into: IO[bytes]) -> None:
    """Regular files in sorted order with a fixed time: the same folder gives the same bytes."""
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, path.read_bytes())
    into.seek(0)


def form(fields: Mapping[str, Any]) -> dict[str, str]:
    """Form fields as text: strings as they are, everything else as JSON, None left out."""
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in fields.items()
        if value is not None
    }

"""What a package's own words say to whoever asks the model."""

from typing import Any

import yaml

from ..packages import ModelFile
from .errors import CannotLoad


def manifest_of(model: ModelFile) -> dict[str, Any]:
    """`fairlead.yaml`, where it is the model file itself: the catalog has validated it. Raises CannotLoad."""
    try:
        said = yaml.safe_load(model.read())
    except yaml.YAMLError:
        said = None
    if not isinstance(said, dict):
        raise CannotLoad("the package's fairlead.yaml cannot be read")
    return said

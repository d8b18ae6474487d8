"""What a package's own words and a version's schema say to whoever opens or asks the model."""

from typing import Any

import yaml

from contracts import ModelSchema
from services.kit.models import Asked

from ..packages import ModelFile
from .errors import CannotLoad


def asked(schema: ModelSchema) -> Asked:
    """The schema, as models hear it."""
    return Asked(
        columns=[column.name for column in schema.columns], prediction=schema.prediction, score=schema.score,
        inputs=[spec.model_dump() for spec in schema.inputs], outputs=[spec.model_dump() for spec in schema.outputs],
    )  # fmt: skip


def manifest_of(model: ModelFile) -> dict[str, Any]:
    """`fairlead.yaml`, where it is the model file itself: the catalog has validated it. Raises CannotLoad."""
    try:
        said = yaml.safe_load(model.read())
    except yaml.YAMLError:
        said = None
    if not isinstance(said, dict):
        raise CannotLoad("the package's fairlead.yaml cannot be read")
    return said

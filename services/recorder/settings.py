"""What the recorder can be told."""

from services.kit.settings import Settings


class RecorderSettings(Settings):
    """Environment variables, with `FAIRLEAD_` before their names."""

    record_every_ms: int = 500
    """How long inferences collect before they become a file: fewer files against fresher look-ups."""

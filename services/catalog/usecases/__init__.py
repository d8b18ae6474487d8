"""What the catalog can do."""

from .candidates import Candidates
from .catalog import Catalog, acting_unit

__all__ = ["Candidates", "Catalog", "acting_unit"]

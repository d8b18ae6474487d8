"""What the catalog needs to know."""

from pydantic import Field

from services.kit.settings import Settings

from .archive import Caps


class CatalogSettings(Settings):
    """`FAIRLEAD_MAX_PACKAGE_BYTES` and the like override these."""

    max_package_bytes: int = Field(default=1024 * 1024 * 1024, ge=1024)
    max_members: int = Field(default=1_000, ge=1)
    max_unpacked_bytes: int = Field(default=2 * 1024 * 1024 * 1024, ge=1024)
    max_body_bytes: int = 1024 * 1024
    """Of everything but packages."""
    uploads: int = Field(default=8, ge=1)
    """Packages taken at a time, from their first byte to their number; each may fill what the caps above allow."""
    uploads_each: int = Field(default=2, ge=1)
    """Of these from one caller."""
    upload_grace_s: float = Field(default=30.0, gt=0)
    upload_bytes_s: int = Field(default=16 * 1024, ge=1)
    """An upload may take the grace, and a second more for each so many bytes that came."""
    inspections: int = Field(default=2, ge=1)
    """Packages inspected at a time: each needs a sandbox of its own. One business unit has one less, where it can."""
    inspection_s: float = Field(default=120.0, gt=0)
    program_start_s: float = Field(default=30.0, gt=0)
    """How long a model that is a program may take from its start to its first answer."""
    inspection_answer_s: float = Field(default=20.0, gt=0)
    """How long a model may take over each call of its inspection with a few rows, at most 100."""
    inspection_mb: int = Field(default=2048, ge=256)

    @property
    def caps(self) -> Caps:
        """How much an archive may hold; one member may fill all of it."""
        return Caps(self.max_members, self.max_unpacked_bytes, self.max_unpacked_bytes)

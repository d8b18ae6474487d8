"""Hours into which a silence reached that was told."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """How many rows they had is usual of none."""
    op.execute("ALTER TABLE lull ADD COLUMN outage boolean NOT NULL DEFAULT false")

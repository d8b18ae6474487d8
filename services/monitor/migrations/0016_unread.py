"""Since when a partition of the log is known: one that is never read is waited for so long, and not for ever."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Those that are known already count from now on."""
    op.execute("ALTER TABLE progress ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now()")

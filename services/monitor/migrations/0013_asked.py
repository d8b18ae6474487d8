"""Up to which hour it was asked whether a season explains an alarm."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Each state of the hours is asked once, by one worker."""
    op.execute("ALTER TABLE season_hour ADD COLUMN asked boolean NOT NULL DEFAULT false")

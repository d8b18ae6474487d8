"""What a replay is about, beside what every job has."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE job ADD COLUMN wish jsonb NOT NULL DEFAULT '{}'")

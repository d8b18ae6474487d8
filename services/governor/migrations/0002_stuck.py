"""Which processes could not be moved on."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE process ADD COLUMN stuck boolean NOT NULL DEFAULT false")

"""Which version a batch asks, where it is not the champion."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("ALTER TABLE batch ADD COLUMN version integer")

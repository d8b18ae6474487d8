"""Which erasures said `decisions.erased` of all that they took: none that was begun before this column was there."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("ALTER TABLE erasure ADD COLUMN told boolean NOT NULL DEFAULT false")

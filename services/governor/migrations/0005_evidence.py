"""What alerts say beside their sentences: since when, how much, in which segment, what it costs."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for column in ("since timestamptz", "how_much text", "segment text", "cost text"):
        op.execute(f"ALTER TABLE alert ADD COLUMN {column}")

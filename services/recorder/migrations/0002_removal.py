"""Files that are out of the books and still on the disk; decisions found by their file, to go with it."""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    "ALTER TABLE file ADD COLUMN removing boolean NOT NULL DEFAULT false",
    "CREATE INDEX ON file (id) WHERE removing",
    "CREATE INDEX ON decision (file)",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)

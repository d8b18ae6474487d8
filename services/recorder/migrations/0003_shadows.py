"""Of what a shadow would have decided: the decision that was told."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = ("ALTER TABLE decision ADD COLUMN shadow_of text",)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)

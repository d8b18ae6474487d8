"""Files of outcomes, beside those of decisions, and the index of what lies in them."""

from alembic import op

revision = "0010"
down_revision = "0009"

_STATEMENTS = (
    "ALTER TABLE file ADD COLUMN kind text NOT NULL DEFAULT 'inferences' CHECK (kind IN ('inferences', 'outcomes'))",
    "ALTER TABLE file ALTER COLUMN kind DROP DEFAULT",
    "ALTER TABLE file DROP CONSTRAINT file_path_key, ADD UNIQUE (kind, path)",
    # One row for each row of a file of outcomes. `said` is the event's id, which follows from what it says; `due`, from
    # when on the row may not stay in its file, since its decision is out of the books.
    """
    CREATE TABLE observation (
        inference_id text NOT NULL,
        "row" integer NOT NULL,
        revision integer NOT NULL,
        said uuid NOT NULL,
        observed_at timestamptz NOT NULL,
        unit text NOT NULL,
        segment bigint NOT NULL,
        due timestamptz,
        PRIMARY KEY (inference_id, "row", revision)
    )
    """,
    "CREATE INDEX ON observation (segment)",
    "CREATE INDEX ON observation (due) WHERE due IS NOT NULL",
    "SELECT public.fairlead_secure('recorder.observation')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)

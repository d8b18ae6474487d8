"""Files, the index of decisions, outcomes, and the schemas to read the log with."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE version (
        endpoint text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        model text NOT NULL,
        model_schema jsonb NOT NULL,
        PRIMARY KEY (endpoint, version)
    )
    """,
    # What is on disk. A file is written before its row commits and gets its name after that: `placed`.
    """
    CREATE TABLE file (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        path text NOT NULL UNIQUE,
        endpoint text NOT NULL,
        unit text NOT NULL,
        partition integer NOT NULL,
        first_offset bigint NOT NULL,
        last_offset bigint NOT NULL,
        rows bigint NOT NULL,
        earliest timestamptz NOT NULL,
        latest timestamptz NOT NULL,
        placed boolean NOT NULL DEFAULT false
    )
    """,
    "CREATE INDEX ON file (endpoint, latest)",
    "CREATE INDEX ON file (latest)",
    "CREATE INDEX ON file (id) WHERE NOT placed",
    """
    CREATE TABLE decision (
        inference_id text PRIMARY KEY,
        unit text NOT NULL,
        endpoint text NOT NULL,
        use_case text NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        mode text NOT NULL,
        application text NOT NULL,
        entity text,
        rows integer NOT NULL,
        received_at timestamptz NOT NULL,
        file bigint NOT NULL
    )
    """,
    "CREATE INDEX ON decision (received_at DESC, inference_id DESC)",
    "CREATE INDEX ON decision (endpoint, received_at DESC, inference_id DESC)",
    "CREATE INDEX ON decision (entity, received_at DESC) WHERE entity IS NOT NULL",
    # An outcome that waits for its inference has no unit yet (`*`); `units` are those of the one who reported it.
    """
    CREATE TABLE outcome (
        inference_id text NOT NULL,
        "row" integer NOT NULL,
        unit text NOT NULL DEFAULT '*',
        endpoint text,
        label jsonb,
        value double precision,
        units text[],
        reported_by text NOT NULL,
        state text NOT NULL CHECK (state IN ('waiting', 'observed', 'refused')),
        reason text,
        partition integer,
        "offset" bigint,
        reported_at timestamptz NOT NULL DEFAULT now(),
        observed_at timestamptz,
        PRIMARY KEY (inference_id, "row")
    )
    """,
    "CREATE INDEX ON outcome (reported_at) WHERE state = 'waiting'",
    "CREATE INDEX ON outcome (endpoint) WHERE state = 'observed'",
    """
    CREATE TABLE writer (
        partition integer NOT NULL,
        writer text NOT NULL,
        seq bigint NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (partition, writer)
    )
    """,
    *(f"SELECT public.fairlead_secure('recorder.{table}')" for table in ("version", "file", "decision", "outcome")),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)

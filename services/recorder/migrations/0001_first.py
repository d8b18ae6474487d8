"""Where each decision lies, and what followed from it."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE served (
        endpoint text NOT NULL,
        version integer NOT NULL,
        model_schema jsonb NOT NULL,
        PRIMARY KEY (endpoint, version)
    )
    """,
    """
    CREATE TABLE decision (
        inference_id text PRIMARY KEY,
        unit text NOT NULL,
        endpoint text NOT NULL,
        use_case text NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        variant text NOT NULL,
        mode text NOT NULL,
        application text NOT NULL,
        entity text,
        request_id text,
        correlation_id text NOT NULL,
        received_at timestamptz NOT NULL,
        latency_ms double precision NOT NULL,
        rows integer NOT NULL,
        path text NOT NULL,
        first_row integer NOT NULL
    )
    """,
    "CREATE INDEX ON decision (endpoint, received_at DESC, inference_id)",
    "CREATE INDEX ON decision (received_at DESC, inference_id)",
    "CREATE INDEX ON decision (entity, received_at DESC) WHERE entity IS NOT NULL",
    """
    CREATE TABLE outcome (
        inference_id text NOT NULL,
        row integer NOT NULL,
        unit text NOT NULL,
        label jsonb,
        value double precision,
        observed_at timestamptz NOT NULL,
        PRIMARY KEY (inference_id, row)
    )
    """,
    # Outcomes whose inference has not arrived; nobody reads them, so they have no unit.
    """
    CREATE TABLE early_outcome (
        inference_id text NOT NULL,
        row integer NOT NULL,
        label jsonb,
        value double precision,
        reported_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (inference_id, row)
    )
    """,
    """
    CREATE TABLE writer (
        partition integer NOT NULL,
        writer text NOT NULL,
        seq bigint NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (partition, writer)
    )
    """,
    "SELECT public.fairlead_secure('recorder.decision')",
    "SELECT public.fairlead_secure('recorder.outcome')",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)

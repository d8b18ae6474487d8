"""What the governor heard, its processes with their mailboxes, approvals, alerts, and the audit ledger."""

from alembic import op

revision = "0001"
down_revision = None

_HEARD = (
    """
    CREATE TABLE use_case (
        use_case text PRIMARY KEY,
        unit text NOT NULL,
        registered_at timestamptz NOT NULL,
        document jsonb NOT NULL
    )
    """,
    """
    CREATE TABLE model_version (
        model text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        registered_at timestamptz NOT NULL,
        retired_at timestamptz,
        serving_at timestamptz,
        document jsonb NOT NULL,
        PRIMARY KEY (model, version)
    )
    """,
    """
    CREATE TABLE endpoint (
        endpoint text PRIMARY KEY,
        unit text NOT NULL,
        use_case text NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        revision integer NOT NULL,
        state text NOT NULL,
        changed_at timestamptz NOT NULL
    )
    """,
)

_PROCESSES = (
    # A policy version that a grant names can be read for ever.
    "CREATE TABLE policy (version text PRIMARY KEY, document jsonb NOT NULL, since timestamptz NOT NULL DEFAULT now())",
    """
    CREATE TABLE process (
        id uuid PRIMARY KEY,
        unit text NOT NULL,
        template text NOT NULL,
        state text NOT NULL CHECK (state IN ('running', 'ended')),
        outcome text,
        endpoint text NOT NULL,
        use_case text NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        deployment_id uuid UNIQUE,
        retraining_id uuid,
        requested_by text NOT NULL,
        correlation_id text NOT NULL,
        facts jsonb NOT NULL,
        workflow jsonb NOT NULL,
        awaits text[] NOT NULL,
        due timestamptz,
        started_at timestamptz NOT NULL,
        ended_at timestamptz
    )
    """,
    "CREATE INDEX ON process (model, version)",
    "CREATE INDEX ON process (endpoint) WHERE state = 'running'",
    "CREATE INDEX ON process (due) WHERE state = 'running'",
    "CREATE UNIQUE INDEX one_retraining ON process (endpoint) WHERE template = 'retraining' AND state = 'running'",
    """
    CREATE TABLE mailbox (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        process_id uuid NOT NULL REFERENCES process (id),
        message text NOT NULL,
        payload jsonb NOT NULL
    )
    """,
    "CREATE INDEX ON mailbox (process_id)",
    """
    CREATE TABLE approval (
        id uuid PRIMARY KEY,
        process_id uuid NOT NULL REFERENCES process (id),
        deployment_id uuid NOT NULL,
        unit text NOT NULL,
        endpoint text NOT NULL,
        use_case text NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        digest text NOT NULL,
        requested_by text NOT NULL,
        also_asked_by text[] NOT NULL,
        gates jsonb NOT NULL,
        evidence_digest text NOT NULL,
        policy_version text NOT NULL,
        requested_at timestamptz NOT NULL,
        state text NOT NULL,
        decided_by text,
        decided_at timestamptz,
        reason text,
        "grant" jsonb
    )
    """,
    "CREATE UNIQUE INDEX one_open_approval ON approval (process_id)",
    "CREATE INDEX ON approval (state, requested_at DESC)",
    """
    CREATE TABLE alert (
        id uuid PRIMARY KEY,
        unit text NOT NULL,
        subject text NOT NULL,
        kind text NOT NULL,
        severity text NOT NULL,
        title text NOT NULL,
        detail text NOT NULL,
        todo text NOT NULL,
        source text NOT NULL,
        state text NOT NULL CHECK (state IN ('open', 'acknowledged', 'resolved')),
        times integer NOT NULL DEFAULT 1,
        raised_at timestamptz NOT NULL,
        last_at timestamptz NOT NULL,
        retraining_id uuid,
        owner text,
        comment text,
        acknowledged_at timestamptz,
        resolved_at timestamptz,
        resolution text
    )
    """,
    "CREATE INDEX ON alert (state, last_at DESC)",
)

_LEDGER = (
    """
    CREATE TABLE ledger_record (
        position bigint PRIMARY KEY,
        hash text NOT NULL,
        content bytea NOT NULL,
        service text NOT NULL,
        number bigint NOT NULL,
        unit text NOT NULL,
        action text NOT NULL,
        subject text NOT NULL,
        actor text NOT NULL,
        at timestamptz NOT NULL,
        correlation_id text NOT NULL,
        UNIQUE (service, number)
    )
    """,
    "CREATE INDEX ON ledger_record (subject, position)",
    "CREATE INDEX ON ledger_record (actor, position)",
    "CREATE INDEX ON ledger_record (correlation_id)",
    # Against accidents only: whoever owns the table can drop the trigger, and then the checkpoints tell.
    """
    CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN RAISE EXCEPTION 'the audit ledger is append only'; END $body$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_record
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only()
    """,
    """
    CREATE TABLE ledger_head (
        single boolean PRIMARY KEY DEFAULT true CHECK (single),
        position bigint NOT NULL,
        hash text NOT NULL,
        sealed bigint NOT NULL DEFAULT 0
    )
    """,
    "CREATE TABLE ledger_writer (service text PRIMARY KEY, number bigint NOT NULL, "
    "gap_told boolean NOT NULL DEFAULT false)",
    """
    CREATE TABLE ledger_waiting (
        service text NOT NULL,
        number bigint NOT NULL,
        content bytea NOT NULL,
        since timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (service, number)
    )
    """,
    # Two different rows under one number: the first stands in the ledger, the other is kept here as evidence.
    """
    CREATE TABLE ledger_dispute (
        service text NOT NULL,
        number bigint NOT NULL,
        content bytea NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (service, number, content)
    )
    """,
    """
    CREATE TABLE ledger_checkpoint (
        position bigint PRIMARY KEY,
        head text NOT NULL,
        sealed_at timestamptz NOT NULL,
        document jsonb NOT NULL
    )
    """,
)

_SECURED = ("use_case", "model_version", "endpoint", "process", "approval", "alert", "ledger_record")


def upgrade() -> None:
    for statement in (*_HEARD, *_PROCESSES, *_LEDGER):
        op.execute(statement)
    for table in _SECURED:
        op.execute(f"SELECT public.fairlead_secure('governor.{table}')")

"""Who is told of alerts: notices, routes, how far an episode went along them, messages and what they told."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    "ALTER TABLE alert ADD COLUMN episode integer NOT NULL DEFAULT 1",
    # Written in the transaction that changes an alert; no unit, nothing that a person reads.
    """
    CREATE TABLE alert_notice (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        alert_id uuid NOT NULL,
        episode integer NOT NULL,
        what text NOT NULL CHECK (what IN ('raised', 'resolved'))
    )
    """,
    """
    CREATE TABLE alert_route (
        name text PRIMARY KEY,
        unit text NOT NULL,
        document jsonb NOT NULL,
        changed_by text NOT NULL,
        changed_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE alert_course (
        alert_id uuid NOT NULL REFERENCES alert (id),
        episode integer NOT NULL,
        route text NOT NULL REFERENCES alert_route (name) ON DELETE CASCADE,
        step integer NOT NULL DEFAULT 0,
        due_at timestamptz,
        PRIMARY KEY (alert_id, episode, route)
    )
    """,
    "CREATE INDEX ON alert_course (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX ON alert_course (route)",
    """
    CREATE TABLE alert_message (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id uuid NOT NULL UNIQUE,
        unit text NOT NULL,
        subject text NOT NULL,
        channel_key text NOT NULL,
        channel jsonb NOT NULL,
        spoken_for text NOT NULL,
        group_s double precision NOT NULL,
        state text NOT NULL CHECK (state IN ('gathering', 'waiting', 'sent', 'failed')),
        send_at timestamptz NOT NULL,
        claimed_until timestamptz,
        attempts integer NOT NULL DEFAULT 0,
        title text NOT NULL DEFAULT '',
        body text NOT NULL DEFAULT '',
        reason text,
        gathered_at timestamptz NOT NULL,
        ended_at timestamptz,
        -- Not told once, but again and again while something is open: what Alertmanager asks for.
        beats boolean NOT NULL DEFAULT false
    )
    """,
    "CREATE UNIQUE INDEX one_beat ON alert_message (channel_key, unit, subject) WHERE beats",
    "CREATE UNIQUE INDEX one_gathering ON alert_message (channel_key, unit, subject) WHERE state = 'gathering'",
    "CREATE INDEX ON alert_message (send_at) WHERE state IN ('gathering', 'waiting')",
    "CREATE INDEX ON alert_message (channel_key, number) WHERE state = 'waiting'",
    """
    CREATE TABLE alert_told (
        alert_id uuid NOT NULL REFERENCES alert (id),
        episode integer NOT NULL,
        channel_key text NOT NULL,
        what text NOT NULL CHECK (what IN ('raised', 'resolved')),
        step integer NOT NULL,
        unit text NOT NULL,
        message_id uuid NOT NULL REFERENCES alert_message (id) ON DELETE CASCADE,
        PRIMARY KEY (alert_id, episode, channel_key, what, step)
    )
    """,
    "CREATE INDEX ON alert_told (message_id)",
    *(f"SELECT public.fairlead_secure('governor.{table}')" for table in ("alert_route", "alert_message", "alert_told")),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)

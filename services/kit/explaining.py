"""What both who asks for explanations of decisions and who makes them say of a model, in the same words."""

from contracts import ModelSchema


def why_unexplained(schema: ModelSchema) -> str | None:
    """Why decisions of a model cannot be explained from the log; None where they can be, as far as its schema says."""
    if not schema.columns:
        return "the model's schema names no columns: there is nothing to attribute decisions to"
    hidden = next((column.name for column in schema.columns if column.sensitive), None)
    if hidden is None:
        return None
    return f"column {hidden} is sensitive: the log holds no value of it, so nothing can be explained"


def printable(told: str) -> str:
    """Words of a model's sandbox, which may hold anything: a database takes no NUL in JSON."""
    return "".join(each if each.isprintable() else " " for each in told)

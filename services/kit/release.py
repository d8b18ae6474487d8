"""Which release of Fairlead this is."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> str:
    """As the package says it; 0 where it runs from a folder that was never installed."""
    try:
        return installed_version("fairlead")
    except PackageNotFoundError:
        return "0"

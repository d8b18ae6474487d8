"""Everything that can be asked of the platform, each written once as the requests that it takes."""

from .batching import Batching
from .catalog import Catalog
from .deciding import Deciding
from .deploying import Deploying
from .operating import Operating
from .watching import Watching

__all__ = ["Operations"]


class Operations(Catalog, Deploying, Deciding, Batching, Watching, Operating):
    """The operations of both clients."""

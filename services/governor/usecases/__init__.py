"""What the governor can do."""

from dataclasses import dataclass

from .alerts import Alerts
from .approvals import Approvals
from .ledger import Ledger
from .life_cycle import LifeCycle
from .reports import Reports
from .retrainings import Retrainings
from .routes import Routes
from .runner import Runner
from .silences import Silences
from .telling import Telling

__all__ = [
    "Alerts", "Approvals", "Governor", "Ledger", "LifeCycle", "Reports", "Retrainings", "Routes", "Runner", "Silences",
    "Telling",
]  # fmt: skip


@dataclass(frozen=True)
class Governor:
    """Its rooms."""

    life_cycle: LifeCycle
    approvals: Approvals
    retrainings: Retrainings
    alerts: Alerts
    routes: Routes
    silences: Silences
    telling: Telling
    ledger: Ledger
    reports: Reports

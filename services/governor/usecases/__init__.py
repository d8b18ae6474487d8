"""What the governor can do."""

from dataclasses import dataclass

from .alerts import Alerts
from .approvals import Approvals
from .ledger import Ledger
from .life_cycle import LifeCycle
from .reports import Reports
from .retrainings import Retrainings
from .runner import Runner

__all__ = ["Alerts", "Approvals", "Governor", "Ledger", "LifeCycle", "Reports", "Retrainings", "Runner"]


@dataclass(frozen=True)
class Governor:
    """Its rooms."""

    life_cycle: LifeCycle
    approvals: Approvals
    retrainings: Retrainings
    alerts: Alerts
    ledger: Ledger
    reports: Reports

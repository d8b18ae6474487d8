"""What may happen: life-cycle processes, approvals, the audit ledger, alerts, reports."""

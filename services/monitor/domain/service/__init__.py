"""How an endpoint serves: counts by minute that merge, objectives, error budgets, what it costs."""

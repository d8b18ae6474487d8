"""The catalog: what the business wants and which models exist."""

"""Why a model decided as it did: what each column contributed, and what would have changed the decision."""

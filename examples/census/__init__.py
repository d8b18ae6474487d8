"""Who is employed: a credit-style decision on real census rows."""

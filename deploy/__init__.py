"""How Fairlead is run: embedded on one machine, in containers."""

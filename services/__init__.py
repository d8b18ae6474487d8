"""The services of Fairlead."""

"""`python -m fairlead` is the command line."""

from .cli import main

main()

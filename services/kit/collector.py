"""Python's garbage collector in a process that runs for months."""

import gc


def settle(first: int = 20_000, second: int = 20, third: int = 20) -> None:
    """What is there now stays: the collector need not look at it again, nor look as often as for a script.

    Without it every full collection goes through all imported modules: some 150 ms in which nobody is answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(first, second, third)

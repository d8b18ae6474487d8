"""Libraries for drift run themselves, each in an environment that is made for the run.

A child is a script that knows its library and numpy alone: it reads streams (`reference`, `rows`: [streams, rows,
columns], the last two columns classes) from a file and writes what the library says of each window or row: `ends`, and
for each of its detectors a statistic [streams, ends] of which more is stronger, on a scale on which tails are
exponential.
"""

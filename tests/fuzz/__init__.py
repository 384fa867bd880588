"""Fuzzing: whatever arrives, what reads it ends in one of the ways that its port names.

Each target is a file with `try_one`, which takes any bytes and returns how they ended, and `ENDS`, all the ways there
are. An exception out of `try_one` is a finding. `corpus/<target>` keeps inputs that reach every end, and each finding
of the past; a plain test runs them. `make fuzz` lets atheris make up others, guided by the code that they reach.
"""

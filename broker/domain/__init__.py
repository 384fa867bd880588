"""The rules, without I/O: every function takes `now` as an argument."""

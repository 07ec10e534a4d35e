"""Measurements of speed. Each module is a sub-command of tools/benchmark.py: `configure(parser)` adds its arguments and
`run(arguments)` prints what it measured and returns the exit status.
"""

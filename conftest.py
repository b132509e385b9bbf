"""Wires `fixtures/` into `acceptance/`: names of stacks, workloads and targets are looked up there first.

Nothing has to be done here for that: `--mooncake-stack NAME` reads `fixtures/stacks/NAME.yaml` of the directory in
which pytest is called. Add your own fixtures and hooks below.
"""

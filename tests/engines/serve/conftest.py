"""Tests of lossd on Ray Serve, which is in the environment of `make engines` alone."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("ray") else ["test_*.py"]

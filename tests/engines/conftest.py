"""Tests of engines that run `lossd.batch`: `make engines` has an environment for them, and nothing else does."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("ray") else ["test_*.py", "*/test_*.py"]

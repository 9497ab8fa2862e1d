"""Tests with trackers and trainers, which are in the environment of `make trackers` alone."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("mlflow") else ["test_*.py", "*/test_*.py"]

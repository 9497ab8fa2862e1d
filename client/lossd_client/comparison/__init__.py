"""Comparisons: is one model's loss greater than another's, by how much, and how sure is that."""

from lossd_client.comparison._change import Change, Verdict
from lossd_client.comparison._checks import NotComparable
from lossd_client.comparison._compare import compare
from lossd_client.comparison._comparison import Comparison

__all__ = ["Change", "Comparison", "NotComparable", "Verdict", "compare"]

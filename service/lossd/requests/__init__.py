"""Requests: tensors and parameters, checked, whether they came over HTTP or from a table."""

"""The media types of bodies."""

JSON = "application/json"
NPY = "application/x-npy"
ARROW = "application/vnd.apache.arrow.stream"
PROBLEM = "application/problem+json"

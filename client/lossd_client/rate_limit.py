"""What is left of a team's rates, as answers say it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

_ITEM: Final = re.compile(r'"([^"\\]*)"((?:\s*;\s*[a-z][\w.*-]*(?:=(?:"[^"\\]*"|:[^:]*:|[\w.+-]*))?)*)')
_PARAMETER: Final = re.compile(r";\s*([a-z][\w.*-]*)=(\d{1,15})(?![\w.])")


@dataclass(frozen=True, slots=True)
class Rate:
    """One rate of a team.

    Attributes:
        limit: How many requests, or elements, there may be in `window`; None if that is not said.
        remaining: How many of them are left.
        reset: Seconds until all of them are available again; None if that is not said.
        window: Seconds; None if that is not said.
    """

    limit: int | None
    remaining: int
    reset: float | None
    window: float | None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What was left of a team's rates when the server answered: an estimate, since others use them too.

    It comes from the headers RateLimit and RateLimit-Policy, as draft-ietf-httpapi-ratelimit-headers has
    them.

    Attributes:
        rates: By name: "requests", "elements", and what a proxy may add.
    """

    rates: Mapping[str, Rate]

    @property
    def requests(self) -> Rate | None:
        """The rate of requests; None if the team has none."""
        return self.rates.get("requests")

    @property
    def elements(self) -> Rate | None:
        """The rate of elements; None if the team has none."""
        return self.rates.get("elements")

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self | None:
        """Return what an answer's headers say; None if they say nothing that can be read.

        Args:
            headers: By names in lower case.
        """
        policies = _items(headers.get("ratelimit-policy", ""))
        rates = {}
        for name, state in _items(headers.get("ratelimit", "")).items():
            if "r" in state:
                policy = policies.get(name, {})
                rates[name] = Rate(policy.get("q"), state["r"], state.get("t"), policy.get("w"))
        return cls(rates) if rates else None


def _items(text: str) -> dict[str, dict[str, int]]:
    """Return the parameters that are integers, by item, of a list of structured fields (RFC 9651)."""
    return {
        name: {key: int(number) for key, number in _PARAMETER.findall(parameters)}
        for name, parameters in _ITEM.findall(text)
    }

"""Answers that are alike but for their numbers: written once, and then only filled in.

To write a small answer anew takes longer than to add up what it says (docs/performance.md).
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from random import SystemRandom
from typing import Final

import orjson

from lossd.request import LossResult
from lossd.wire.answer import SUMS, terms_of

# What stands where a number or the id is to be. No caller knows it, so that nothing else looks like it.
_NAMES: Final = ("loss", *SUMS)
_TERMS: Final = tuple(f"{name}_terms" for name in SUMS)
_NUMBERS: Final = {
    name: math.ldexp(1.0 + SystemRandom().random(), -900 - i) for i, name in enumerate((*_NAMES, *_TERMS))
}
_COUNT: Final = (1 << 52) + secrets.randbits(52)
_IDENTITY: Final = secrets.token_hex(16)
# As many terms as there are: an output of the Open Inference Protocol says before them how many.
_COUNTED: Final = b'1],"data":['
_TERM_MARKS: Final = [orjson.dumps(_NUMBERS[name]) for name in _TERMS]
_MARKS: Final = [
    *(orjson.dumps(mark) for mark in (*(_NUMBERS[name] for name in _NAMES), _COUNT)),
    *_TERM_MARKS,
    *(_COUNTED + mark for mark in _TERM_MARKS),
    _IDENTITY.encode(),
]
_MARK: Final = re.compile(b"|".join(map(re.escape, _MARKS)))


class Template:
    """The answers, in JSON, to requests for one number that ask alike.

    Args:
        write: Writes an answer to a request of an id.
        like: A result of such a request.
    """

    def __init__(self, write: Callable[[LossResult, str], bytes], like: LossResult) -> None:
        numbers = {name: _NUMBERS[name] for name in _NAMES}
        terms = {name: (_NUMBERS[name],) for name in _TERMS}
        marked = write(replace(like, count=_COUNT, **numbers, **terms), _IDENTITY)  # type: ignore[arg-type]
        places = [_MARKS.index(mark) for mark in _MARK.findall(marked)]
        self._pick: Final = itemgetter(*places, 0)  # one more, so that it always gives a tuple
        self._text: Final = _MARK.sub(b"%b", marked.replace(b"%", b"%%")) + b"%.0b"

    def write(self, result: LossResult, request_id: bytes) -> bytes | None:
        """What ``write`` writes.

        Args:
            result: Of such a request.
            request_id: Has no character that JSON writes in another way.

        Returns:
            None where a number is not finite: those have names.
        """
        lists = [terms_of(result, name) for name in SUMS]
        numbers = [result.loss, result.sum, result.weight_sum, result.positives, result.count]
        text = orjson.dumps([*numbers, *lists])
        if b"null" in text:
            return None
        one, *several = text[1:-2].split(b",[")
        terms = [each.removesuffix(b"]") for each in several]
        counted = [b'%d],"data":[%b' % (len(each), text) for each, text in zip(lists, terms, strict=True)]
        filled: bytes = self._text % self._pick([*one.split(b","), *terms, *counted, request_id])
        return filled

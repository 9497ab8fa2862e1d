"""The store that shares the teams' limits between servers: Valkey or Redis.

Each server leases a share of each limit, a part of 1, and asks again five times a second (many servers ask
less often): by one script, which the store runs at once, by its own clock. No request waits for it.

**What a server gets.** It says what it would use of a limit if nothing were refused. If all demands fit,
each gets its demand and an equal part of what is left, so a server where a team is new may take a burst. If
not, shares are in proportion to demands: what one server with all callers would do. Limits that no server
asks for are shared equally, and take no room in the store. Doorman (github.com/youtube/doorman) has
leases, shares in proportion, and a store that learns, too.

**The sum is at most 1.** A server gets no more than the others' leases leave. So a share first becomes
smaller at one server, when that asks again, and then larger at another. What is in flight stays leased
until it has ended.

**A lease ends** a second after it was given: a server that died leaves its share to the others. A server
that cannot reach the store goes on with its last share.

**A store that has forgotten**, because it was flushed or started again, learns for a lease's length: each
server says what it holds, and gets no more than that. It does the same after its clock jumps or an old backup
is restored.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lossd.engine.admission.quota_shares import Asked

_LEASE_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 0.5
_KEY: Final = "lossd:quotas"

# The hash has a field a server: the end of its lease, and for each limit its demand and its share; and the
# field "time": since when servers ask, and when one asked last. A limit that a server does not name has its
# share of "".
_SCRIPT: Final = """
local clock = redis.call('TIME')
local now, lease = clock[1] + clock[2] / 1e6, tonumber(ARGV[2])
local asked, others = cmsgpack.unpack(ARGV[3]), {}
local servers, unnamed, began, last = 1, 0, now, 0
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do
  local name, value = stored[i], cmsgpack.unpack(stored[i + 1])
  if name == 'time' then
    began, last = value[1], value[2]
  elseif name ~= ARGV[1] then
    if value[1] < now or value[1] > now + lease then
      redis.call('HDEL', KEYS[1], name)
    else
      servers = servers + 1
      local own = value[2]
      unnamed = unnamed + own[''][2]
      for limit, its in pairs(own) do
        if limit ~= '' then
          local sum = others[limit] or {0, 0}
          sum[1], sum[2] = sum[1] + its[1], sum[2] + its[2] - own[''][2]
          others[limit] = sum
        end
      end
    end
  end
end
if last > now or last < now - lease then began = now end
local learning = now - began < lease

local function share(limit)
  local demand, in_use, held = unpack(asked[limit] or {0, 0, asked[''][3]})
  local sum = others[limit] or {0, 0}
  local all, free = demand + sum[1], 1 - unnamed - sum[2]
  local part = all > 1 and demand / all or demand + (1 - all) / servers
  part = math.max(0, math.min(part, free))
  if learning then part = math.min(part, held) end
  return math.max(part, in_use), demand, all
end

local shares, kept = {['']= (share(''))}, {}
kept[''] = {0, shares['']}
for _, limits in ipairs({asked, others}) do
  for limit in pairs(limits) do
    if shares[limit] == nil then
      local part, demand, all = share(limit)
      if all > 0 or math.abs(part - shares['']) > 1e-9 then
        shares[limit], kept[limit] = part, {demand, part}
      end
    end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack({now + lease, kept}), 'time', cmsgpack.pack({began, now}))
redis.call('PEXPIRE', KEYS[1], 60000)
return cmsgpack.pack({servers, shares})
"""


class StoreError(OSError):
    """The store cannot be asked. Its text says why, in one line."""


class Lease(NamedTuple):
    """What a server may use until it asks again.

    Attributes:
        servers: How many servers share the limits now.
        shares: Its parts of the limits.
    """

    servers: int
    shares: dict[str, float]


class QuotaStore:
    """The store, as one server asks it, from one thread.

    Args:
        url: Its URL: redis://, rediss:// or unix://.

    Raises:
        ValueError: The URL cannot be read.

    Attributes:
        shown: Its URL without what is secret in it.
        lease_seconds: How long a share is kept for a server that does not ask again.
    """

    lease_seconds: Final = _LEASE_SECONDS

    def __init__(self, url: str) -> None:
        self.shown: Final = _shown(url)
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),  # it is asked again soon
            client_name="lossd",
        )
        try:
            self._redis.connection_pool.make_connection()  # connects later; refuses unknown options now
        except TypeError as error:
            msg = f"{error}"
            raise ValueError(msg) from None
        self._script = self._redis.register_script(_SCRIPT)
        self._id = uuid.uuid4().hex

    def lease(self, asked: Mapping[str, Asked]) -> Lease:
        """Ask for shares of limits.

        Raises:
            StoreError: The store did not answer.
        """
        arguments: list[bytes | str | float] = [self._id, self.lease_seconds, msgspec.msgpack.encode(asked)]
        with _errors():
            answer = cast(bytes, self._script([_KEY], arguments))
        servers, shares = msgspec.msgpack.decode(answer, type=tuple[int, dict[str, float]])
        return Lease(servers, shares)

    def release(self) -> None:
        """Give all shares back.

        Raises:
            StoreError: The store did not answer; the lease ends by itself.
        """
        with _errors():
            self._redis.hdel(_KEY, self._id)
            self._redis.close()


def _shown(url: str) -> str:
    """Return a store's URL without what is secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def _errors() -> Iterator[None]:
    """Turn redis-py's errors into ours. None of them quotes a password."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise StoreError(str(error).partition("\n")[0][:200] or type(error).__name__) from None

"""Checks before the server starts: variables that are no settings, and settings that the machine cannot bear.

What is surely wrong ends the start. Else a line is logged, since the operator may know better.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from lossd.engine.usage_database import check_url
from lossd.machine import available_memory, available_tasks, core_quota
from lossd.setting_types import SERVICE_LINK
from lossd.settings import MIB, PORT, Settings
from lossd.tracing import is_installed

logger = logging.getLogger(__name__)

SECRET: Final = ("quota_store", "usage_file")
"""The settings whose URLs have passwords."""
REMOVED: Final = {"LOSSD_CACHE_DIR": "the kernel is compiled when the package is built"}
"""Variables of earlier versions, and what happens instead."""

_service_variable: Final = re.compile(
    r"LOSSD_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_OF_OTHERS: Final = frozenset(
    {"LOSSD_API_KEY", "LOSSD_BASE_URL", "LOSSD_LOG", "LOSSD_URL", "LOSSD_SOAK", "LOSSD_REQUESTS"}
)
"""Variables of the client and of the tests, which may stand in a server's environment."""
_PREFIX: Final = "LOSSD_"
_OF_RAY: Final = "LOSSD_RAY_"
"""What variables of `lossd.ray_serve` begin with."""
_INSTEAD: Final = {
    "LOSSD_PORT": f"port {PORT} is used",
    "LOSSD_ADMIN_PORT": "there is no admin listener",
}
"""What happens if Kubernetes sets a variable that is a setting."""
_SUPERVISOR_BYTES: Final = 40 * MIB
_FRONT_END_BYTES: Final = 50 * MIB
_WORKER_BYTES: Final = 20 * MIB
_TORCH_BYTES: Final = 180 * MIB
_SIZES: Final = (
    "max_body_bytes",
    "max_json_bytes",
    "max_chunked_bytes",
    "max_expanded_bytes",
    "max_batch_bytes",
    "max_output_bytes",
)
"""The settings that shrink with the arena."""
_OTHER_TASKS: Final = 32
"""Threads and processes of a front end, or of the supervisor, at most."""


class Resources(NamedTuple):
    """What the machine lets the server use.

    Attributes:
        memory: Bytes of memory; None if that is not known.
        cores: Cores by the cgroup's quota; infinite without one.
        tasks: Threads and processes; None without a limit.
    """

    memory: int | None
    cores: float
    tasks: int | None

    @classmethod
    def find(cls) -> Resources:
        """Return those of this process."""
        return cls(available_memory(), core_quota(), available_tasks())


class Variables(NamedTuple):
    """What is wrong with variables that look like settings.

    Attributes:
        errors: What is likely to be a mistake.
        warnings: What is ignored.
    """

    errors: list[str]
    warnings: list[str]


def explain_all(error: ValidationError, options: Iterable[str] = (), prefix: str = _PREFIX) -> list[str]:
    """Return what is wrong with settings, a line each; see `explain`."""
    errors = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
    return [explain(one, options, prefix) for one in errors]


def explain(error: Mapping[str, Any], options: Iterable[str], prefix: str = _PREFIX) -> str:
    """Return what is wrong with a setting, under the name by which it was set.

    Args:
        error: One of pydantic's errors.
        options: The settings that were given as options.
        prefix: What the names of variables begin with.
    """
    what = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(what)
    name = str(error["loc"][0])
    if name in options:
        return f"--{name.replace('_', '-')}: {what}"
    given = error.get("input")
    shown = f"={given}" if isinstance(given, str) and len(given) <= 100 and name not in SECRET else ""
    return f"{prefix}{name.upper()}{shown}: {what}"


def check_variables(environment: Mapping[str, str], of_ray: Collection[str] = ()) -> Variables:
    """Return what is wrong with the variables that are no settings.

    Args:
        environment: The variables.
        of_ray: The names of those of `lossd.ray_serve`, where that reads them.
    """
    known = {*of_ray, *(f"{_PREFIX}{name.upper()}" for name in Settings.model_fields)}
    links, found = [], Variables([], [])
    for name, value in environment.items():
        if not name.startswith(_PREFIX) or name in _OF_OTHERS:
            continue
        if name.startswith(_OF_RAY) and not of_ray:
            continue
        linked = name.endswith("_PORT") and SERVICE_LINK.fullmatch(value)
        if linked or (_service_variable.fullmatch(name) and name not in known):
            links.append(name)
        elif name in REMOVED:
            found.warnings.append(f"{name} is ignored: it was removed; {REMOVED[name]}")
        elif name not in known and (meant := get_close_matches(name, known, 1, 0.85)):
            found.errors.append(f"{name} is no setting; did you mean {meant[0]}? rename it, or unset it")
        elif name not in known:
            found.warnings.append(f"{name} is ignored: there is no such setting")
    if links:
        shown = next((name for name in links if name in known), links[0])
        others = f" (with {len(links) - 1} others)" if len(links) > 1 else ""
        service = "lossd-admin" if shown.startswith("LOSSD_ADMIN_") else "lossd"
        instead = "".join(f", so {_INSTEAD[name]}" for name in links if name in _INSTEAD)
        found.warnings.append(
            f"{shown}={environment[shown]} is ignored{others}{instead}: Kubernetes sets it for a Service "
            f"named {service}; set enableServiceLinks: false in the pod to avoid it"
        )
    return found


def fit(settings: Settings, resources: Resources) -> Settings:
    """Return the settings, with a smaller arena if the default one does not fit; log what does not fit."""
    if resources.cores < 1:
        logger.warning(
            "the CPU quota is %.2g of a core: requests wait for it, and checks may come late; give it one",
            resources.cores,
        )
    tasks = settings.threads + _OTHER_TASKS * (1 + settings.front_ends)
    if resources.tasks is not None and resources.tasks < tasks:
        logger.warning(
            "there may be %d threads and processes here (pids.max), and the server may need %d; raise it",
            resources.tasks,
            tasks,
        )
    memory, processes = resources.memory, _process_bytes(settings)
    if memory is None or settings.arena_bytes + processes <= memory:
        return settings
    if "arena_bytes" not in settings.model_fields_set:
        smaller = _shrink(settings, min(memory // 2, memory - processes))
        if smaller is not None:
            logger.warning(
                "the arena has %d MiB instead of %d, since there are %d MiB of memory, and the default "
                "limits of bodies and answers are as much lower (/info has them); set LOSSD_ARENA_BYTES to "
                "choose",
                smaller.arena_bytes // MIB,
                settings.arena_bytes // MIB,
                memory // MIB,
            )
            return smaller
    logger.warning(
        "the arena (LOSSD_ARENA_BYTES) of %d MiB and %d MiB for the processes do not fit into the %d MiB of "
        "memory, so the system may kill one when the arena fills; lower LOSSD_ARENA_BYTES and "
        "LOSSD_MAX_BODY_BYTES, or allow more memory",
        settings.arena_bytes // MIB,
        processes // MIB,
        memory // MIB,
    )
    return settings


def check_services(settings: Settings) -> list[str]:
    """Return what is wrong with the services that settings name, without connecting; no password is shown."""
    found = []
    if settings.traces and not is_installed():
        found.append("LOSSD_TRACES needs OpenTelemetry: pip install 'lossd[otel]'")
    if settings.quota_store is not None and (wrong := _check_store(settings.quota_store)):
        found.append(wrong)
    if isinstance(settings.usage_file, str) and (wrong := check_url(settings.usage_file)):
        found.append(f"LOSSD_USAGE_FILE: {wrong}")
    return found


def _check_store(url: str) -> str | None:
    """Return what is wrong with the quota store's URL, if anything is."""
    try:
        from lossd.engine.admission.quota_store import QuotaStore
    except ModuleNotFoundError:
        return "LOSSD_QUOTA_STORE needs redis-py: pip install 'lossd[quota]'"
    try:
        QuotaStore(url)
    except ValueError:
        return "LOSSD_QUOTA_STORE cannot be read; write redis://:PASSWORD@HOST:6379/0, with %XX for signs"
    return None


def tell_limits(settings: Settings) -> None:
    """Log which settings share limits, if there are none to share."""
    given = {"LOSSD_QUOTA_STORE": settings.quota_store is not None, "LOSSD_REPLICAS": settings.replicas > 1}
    if settings.teams is None and any(given.values()):
        names = " and ".join(name for name, is_given in given.items() if is_given)
        logger.warning("%s is ignored: limits are the teams', and there are none (LOSSD_TEAMS)", names)


def tell_usage(settings: Settings, environment: Mapping[str, str]) -> None:
    """Log where usage is kept, if neither a setting nor HOME says that."""
    if "usage_file" in settings.model_fields_set or environment.get("HOME"):
        return
    if settings.usage_file is None:
        logger.warning("usage is not kept over restarts: this user has no home; set LOSSD_USAGE_FILE")
    else:
        logger.info("there is no HOME; usage is kept in %s (LOSSD_USAGE_FILE)", settings.usage_file)


def _process_bytes(settings: Settings) -> int:
    torch = settings.kernel == "torch" or settings.losses or settings.device[0].startswith("cuda")
    workers = len(settings.device) * (_TORCH_BYTES if torch else _WORKER_BYTES)
    front_ends = settings.front_ends + (settings.admin_port is not None)  # the admin listener is as large
    return _SUPERVISOR_BYTES + front_ends * _FRONT_END_BYTES + workers


def _shrink(settings: Settings, arena_bytes: int) -> Settings | None:
    """Return settings with another arena and as much lower limits, except for those that were given.

    Returns:
        The settings; None if what was given does not fit into such an arena, or nothing does.
    """
    given = settings.model_dump(include=settings.model_fields_set)
    share = arena_bytes / settings.arena_bytes
    lower = {name: int(getattr(settings, name) * share) for name in _SIZES}
    try:
        return Settings(**{**lower, **given, "arena_bytes": arena_bytes})
    except ValidationError:
        return None

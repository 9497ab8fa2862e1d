"""The routes around the losses: liveness, readiness, server information, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from lossd import __version__
from lossd.api.auth import require_team
from lossd.api.routes.schemas import Alive, Info, Limits, LossInfo, ParameterInfo, Readiness, WorkerInfo
from lossd.api.services import Service
from lossd.core.catalog import LOSSES, Loss
from lossd.core.native.kernel import slower_by
from lossd.core.report.parameters import report_parameters
from lossd.core.report.spec import SECTIONS


def status_routes(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter(tags=["status"])

    @router.get("/livez", summary="Liveness")
    async def livez() -> Alive:
        return Alive()

    @router.get(
        "/readyz",
        summary="Readiness",
        response_model=Readiness,
        response_model_exclude_none=True,
        responses={
            200: {"description": "Every worker is ready. `degraded`: something else is wrong."},
            503: {"model": Readiness, "description": "`reasons` says why requests are not answered."},
        },
    )
    async def readyz() -> JSONResponse:
        return readiness(service.unready, service.degraded)

    @router.get("/info", summary="Server information", dependencies=[Depends(require_team)])
    async def info() -> Info:
        return describe(service)

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        dependencies=[] if service.settings.metrics_open else [Depends(require_team)],
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(
            service.metrics.expose(service.pool), headers={"content-type": service.metrics.content_type}
        )

    return router


def readiness(unready: Sequence[str], degraded: Sequence[str]) -> JSONResponse:
    """Return the answer of ``/readyz``.

    Args:
        unready: What keeps requests from being answered.
        degraded: What is wrong besides.
    """
    status: Literal["not ready", "degraded", "ready"] = "ready"
    if unready or degraded:
        status = "not ready" if unready else "degraded"
    document = Readiness(status=status, reasons=[*unready, *degraded] or None)
    return JSONResponse(document.model_dump(exclude_none=True), 503 if unready else 200)


def describe(service: Service) -> Info:
    """Return the document of ``/info``."""
    slots = list(service.pool.slots.values())
    ready = next((slot.ready for slot in slots if slot.ready.kernel), None)
    settings = service.settings
    slow = ready is not None and ready.kernel == "torch" and ready.device == "cpu"
    return Info(
        version=__version__,
        torch=ready.torch if ready else None,
        cpu_capability=ready.capability if ready else None,
        kernel=ready.kernel if ready else None,
        notes=[slower_by()] if slow else [],
        losses=[_describe_loss(loss) for loss in LOSSES.values()],
        limits=Limits(
            body_bytes=settings.max_body_bytes,
            json_bytes=settings.max_json_bytes,
            chunked_bytes=settings.max_chunked_bytes,
            expanded_bytes=settings.max_expanded_bytes,
            batch_bytes=settings.max_batch_bytes,
            output_bytes=settings.max_output_bytes,
            arena_bytes=settings.arena_bytes,
            report_top=settings.max_report_top,
            report_cells=settings.max_report_cells,
            row_elements=settings.max_row_elements,
            timeout_seconds=settings.timeout_seconds,
        ),
        workers=describe_workers(service),
    )


def describe_workers(service: Service) -> list[WorkerInfo]:
    """Return the workers as they are now."""
    return [
        WorkerInfo(pid=slot.pid, device=slot.device, state=slot.state, restarts=slot.restarts)
        for slot in service.pool.slots.values()
    ]


def _describe_loss(loss: Loss) -> LossInfo:
    return LossInfo(
        name=loss.name,
        title=loss.title,
        summary=loss.summary,
        tensors=list(loss.tensors),
        sections=[section for section in SECTIONS if section not in loss.without],
        parameters=[
            ParameterInfo(
                name=parameter.name,
                default=parameter.default,
                values=dict(parameter.schema),
                summary=parameter.summary,
            )
            for parameter in (*loss.all_parameters, *report_parameters(loss))
        ],
    )

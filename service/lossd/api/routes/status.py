"""The routes around the losses: is it alive, is it ready, what is it, what has it done."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from lossd import __version__
from lossd.api.auth import asking_team
from lossd.api.routes.schemas import Alive, Info, Limits, LossInfo, ParameterInfo, Readiness, WorkerInfo
from lossd.api.services import Service
from lossd.core.catalog import LOSSES, SHARED, Loss
from lossd.core.native.kernel import slower_by


def status_routes(service: Service) -> APIRouter:
    """The routes, over a service."""
    router = APIRouter(tags=["status"])

    @router.get("/livez", summary="Is the server there?")
    async def livez() -> Alive:
        return Alive()

    @router.get(
        "/readyz",
        summary="Can it compute?",
        response_model=Readiness,
        response_model_exclude_none=True,
        responses={
            200: {"description": "Every worker is ready. `degraded`: something else is amiss."},
            503: {"model": Readiness, "description": "Not every worker is ready."},
        },
    )
    async def readyz() -> JSONResponse:
        if not service.ready:
            said = Readiness(status="not ready")
        elif service.pool.degraded:
            said = Readiness(status="degraded", reasons=list(service.pool.degraded))
        else:
            said = Readiness(status="ready")
        return JSONResponse(said.model_dump(exclude_none=True), 503 if said.status == "not ready" else 200)

    @router.get("/info", summary="What is it?", dependencies=[Depends(asking_team)])
    async def info() -> Info:
        return describe(service)

    @router.get(
        "/metrics",
        summary="What has it done?",
        response_class=Response,
        dependencies=[] if service.settings.metrics_open else [Depends(asking_team)],
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        text = service.metrics.expose(service.pool)
        return Response(text, headers={"content-type": service.metrics.content_type})

    return router


def describe(service: Service) -> Info:
    """The server, for ``/info``."""
    slots = list(service.pool.slots.values())
    said = next((slot.ready for slot in slots if slot.ready.kernel), None)
    settings = service.settings
    slow = said is not None and said.kernel == "torch" and said.device == "cpu"
    return Info(
        version=__version__,
        torch=said.torch if said else None,
        cpu_capability=said.capability if said else None,
        kernel=said.kernel if said else None,
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
            timeout_seconds=settings.timeout_seconds,
        ),
        workers=[
            WorkerInfo(pid=slot.pid, device=slot.device, state=slot.state, restarts=slot.restarts)
            for slot in slots
        ],
    )


def _describe_loss(loss: Loss) -> LossInfo:
    return LossInfo(
        name=loss.name,
        title=loss.title,
        summary=loss.summary,
        parameters=[
            ParameterInfo(name=parameter.name, default=parameter.default, summary=parameter.summary)
            for parameter in (*SHARED, *loss.parameters)
        ],
    )

"""All attacks, each with what its caller has."""

from __future__ import annotations

from typing import Final

from bench.attacks import bodies, floods, slow
from bench.attacks.siege import Plan

PLANS: Final = {
    plan.name: plan
    for plan in (
        Plan(slow.lockout, 4_150, key=True, short=1_600),
        Plan(slow.trickling_heads, 4_150, short=1_600),
        Plan(slow.trickling_heads, 4_150, addresses=200),
        Plan(slow.silent_connections, 6_000),
        Plan(slow.slow_uploads, 8, key=True, large=True, short=4),
        Plan(slow.slow_readers, 40, key=True, large=True, short=16),
        Plan(slow.slow_json, 50, key=True, large=True),
        Plan(slow.slow_parts, 100, key=True, large=True),
        Plan(slow.chunked_bodies, 100, key=True, large=True),
        Plan(slow.paused_streams, 100, key=True, large=True),
        Plan(slow.handshakes, 6_000, "tls", short=1_400),
        Plan(slow.broken_handshakes, 6_000, "tls"),
        Plan(floods.busy_connections, 2_000, key=True, short=1_000),
        Plan(floods.busy_connections, 2_000, "open"),
        Plan(floods.info_reads, 1_000, key=True),
        Plan(floods.busy_strangers, 2_000, short=1_000),
        Plan(floods.busy_strangers, 2_000, addresses=200),
        Plan(floods.pipelines, 16, key=True),
        Plan(floods.pipelined_probes, 16),
        Plan(floods.guessed_keys, 200),
        Plan(floods.refused_requests, 100),
        Plan(floods.wrong_queries, 100, key=True),
        Plan(floods.long_lists, 4, key=True),
        Plan(floods.many_headers, 100),
        Plan(floods.metrics_reads, 50, key=True),
        Plan(floods.usage_reads, 50, key=True),
        Plan(floods.documentation_reads, 100),
        Plan(floods.documentation_reads, 200, addresses=200, short=200),
        Plan(slow.unread_documents, 3_000, short=1_000),
        Plan(floods.log_flood, 50, short=50),
        Plan(floods.request_ids, 100, "json", key=True),
        Plan(floods.churn, 200, addresses=50),
        Plan(floods.resets, 200, key=True, addresses=50),
        Plan(floods.tls_churn, 100, "tls", addresses=50),
        Plan(bodies.bombs, 16, key=True),
        Plan(bodies.deep_json, 16, key=True),
        Plan(bodies.wide_json, 8, key=True, large=True),
        Plan(bodies.many_keys, 16, key=True),
        Plan(bodies.lying_archives, 16, key=True),
        Plan(bodies.tiny_chunks, 16, key=True),
        Plan(bodies.many_parts, 16, key=True),
        Plan(bodies.costly_parameters, 16, key=True),
    )
}
"""By name."""

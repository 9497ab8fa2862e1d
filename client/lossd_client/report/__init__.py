"""Reports: what a loss is made of, in figures that add up exactly."""

from lossd_client.report._figures.block import MissingSectionError
from lossd_client.report._report import Report, ReportMerger

__all__ = ["MissingSectionError", "Report", "ReportMerger"]

"""Pages that a person opens: the report of a slide, the worklist, their charts and pictures."""

from wsi_anomaly.reports.report import write_report
from wsi_anomaly.reports.slide_folder import write_results
from wsi_anomaly.reports.worklist import Worklist, write_worklist

__all__ = [
    "Worklist",
    "write_report",
    "write_results",
    "write_worklist",
]

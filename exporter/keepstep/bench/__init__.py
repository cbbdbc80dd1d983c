"""The benchmark: what the schedule gives, and what compiling gives, measured apart.

setting → configurations, eager → measure → rows, equal_latency → report → table, page;
driver.py drives them. Nothing heavy is loaded before a configuration is run.
"""

from __future__ import annotations

from .driver import benchmark, measured_report
from .report import Report
from .setting import Setting

__all__ = ["Report", "Setting", "benchmark", "measured_report"]

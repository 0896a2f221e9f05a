"""Benchmark campaigns: a potential on many crystals against a mode-resolved reference, resumable and in shards."""

from __future__ import annotations

from .material import run_material
from .records import read_record, record_path, write_record
from .settings import EvaluationSettings
from .tables import rows_of, summary_of, write_tables

__all__ = [
    "EvaluationSettings",
    "read_record",
    "record_path",
    "rows_of",
    "run_material",
    "summary_of",
    "write_record",
    "write_tables",
]

"""Benchmark campaigns: a potential on many crystals against a mode-resolved reference, resumable and in shards."""

from .records import Settings, read_record, record_path, write_record
from .run import run_material
from .tables import rows_of, summary_of, write_tables

__all__ = [
    "Settings", "read_record", "record_path", "rows_of", "run_material", "summary_of", "write_record", "write_tables",
]  # fmt: skip

"""Sections of `benchmark_decisions.py`: functions that take a run and give figures as plain values."""

"""Faults on purpose: a plan says which and when, and a callback in every rank makes them happen."""

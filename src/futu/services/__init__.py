"""Processes: the supervisor behind 'both'."""

"""Nearest neighbours, derived from the catalogue."""

"""Searches over HTTP under load, while images are added."""

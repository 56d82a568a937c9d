"""Futu (浮图): self-hosted image search and duplicate finding."""

__version__ = "0.1.0"

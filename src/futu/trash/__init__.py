"""The trash: pictures that were moved away, and how they come home."""

"""Finding copies: candidates from the index, verified, in groups around a keeper."""

"""Feature extraction models: what they are, where they are, how they run."""

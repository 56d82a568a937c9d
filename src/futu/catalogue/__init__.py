"""The source of truth: datasets, images, feature vectors, builds."""

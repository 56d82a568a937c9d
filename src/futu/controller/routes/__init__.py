"""One Flask blueprint for each family of routes."""

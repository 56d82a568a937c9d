"""The controller: REST API, ingest, collector, search."""

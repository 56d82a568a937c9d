"""Jobs over Redis: messages, streams, leases, the bundled server."""

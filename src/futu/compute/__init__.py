"""The compute server: leases jobs, decodes, infers, acknowledges."""

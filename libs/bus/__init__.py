"""The bus: the only importer of nats. Start at `connection.connected`."""

"""The engine: job graph, pure protocol, data and control plane; it knows connectors and state only by their ports."""

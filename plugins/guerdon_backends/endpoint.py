"""The HTTP endpoint, which the core has for its workers too, where backends find it."""

from guerdon.http_endpoint import HttpEndpoint, Reply

__all__ = ["HttpEndpoint", "Reply"]

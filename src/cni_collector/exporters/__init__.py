"""Where events go besides stdout. Exporters run beside the reader: none delays it, or another one."""

from .relay import Exporter, Relay

__all__ = ["Exporter", "Relay"]

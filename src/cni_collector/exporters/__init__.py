"""Where events go besides stdout. Exporters run beside the reader: none delays it, or another one."""

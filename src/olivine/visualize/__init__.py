"""Pictures of what went in and what came out: overlays, clouds, tables, the report."""

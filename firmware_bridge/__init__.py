"""Floor 3: the firmware bridge (schema, C library, host)."""

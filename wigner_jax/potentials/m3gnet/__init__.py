"""M3GNet."""

"""What keeps a run from harm: lock, stops, memory, strategy, sharding."""

"""`--engine`: shards that are read and scored where an engine runs its tasks, without a server."""

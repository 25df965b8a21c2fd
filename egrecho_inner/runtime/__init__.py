"""Runtime: files that are never seen half-written, ledgers, passes over manifests, workers. Knows nothing of speech."""

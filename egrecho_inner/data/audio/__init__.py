"""From a cut to its samples and log-mel features, and back to a file."""

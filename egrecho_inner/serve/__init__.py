"""The training server: jobs in a queue, workers as processes, three routes of the specification and /v1, a page."""

"""Training on a hundred recordings of one speaker: settings from the data, honest evaluation, a verdict."""

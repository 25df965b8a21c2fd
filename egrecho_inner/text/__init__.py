"""Text: labels, normalisers and scores. Imports nothing of ours but `errors`."""

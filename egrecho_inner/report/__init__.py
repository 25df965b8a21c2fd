"""Reports: static pages of data and scores."""

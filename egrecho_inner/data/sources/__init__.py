"""What lies on disk, as recordings and supervisions."""

"""Result folders of an evaluation: written, read, compared, shown as tables."""

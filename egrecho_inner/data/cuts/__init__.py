"""Manifests of cuts: made, indexed, filtered, packed, counted."""

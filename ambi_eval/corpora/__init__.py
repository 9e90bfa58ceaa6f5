"""Corpora: from a release on disk to a manifest, and from a manifest to the clips of a task."""

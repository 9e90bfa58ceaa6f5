"""Corpora: releases on disk become manifests, and manifests become the clips that a task asks about."""

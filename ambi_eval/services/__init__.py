"""Engines for services that have their own client library: litellm and google-genai."""

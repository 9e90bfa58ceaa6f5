"""The engines of services that are reached through a library of their own: litellm and google-genai."""

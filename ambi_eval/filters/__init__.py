"""From the pool of a clip's answers to one predicted distribution: one small filter for each way to reduce a pool."""

"""Where a model loses information about the emotion: in the encoder, the language model, or the answer."""

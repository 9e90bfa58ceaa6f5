"""Where along the way from the microphone to the answer a model loses what it heard."""

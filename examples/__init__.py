"""The example model, a few clips of its test set, and the demo that plays them."""

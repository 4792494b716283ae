"""Normal sound of a machine that no model was trained on in, what the device learned of it out."""

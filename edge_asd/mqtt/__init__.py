"""A broker's address in, messages to it and from it out."""

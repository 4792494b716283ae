"""An encoder, machine clips and noise in; the encoder trained to keep both sounds of a mixture out."""

"""Number of machines, clips and a seed in; generated machine sound in the layout of DCASE 2020 out."""

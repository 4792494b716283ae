"""The commands of `edge-asd`, one file each: arguments in, exit code out."""

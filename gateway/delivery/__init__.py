"""What goes out: replies, files, fates, in order and once."""

"""What a user hands in, checked once, and its mini-batches: arrays, files, iterables."""

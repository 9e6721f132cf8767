"""The training recipe and the scores that a checkpoint tells of, each value with the place it was found at."""

"""Finding the weights in what a checkpoint holds, checking them, and fitting their names to a network's own."""

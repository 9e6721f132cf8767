"""Networks: the built-in ones, those of other packages, and which one a checkpoint is of."""

"""`mdtree check`: what a checkpoint is, what can be measured with what is given, and what it will cost."""

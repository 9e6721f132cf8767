"""Reading files and folders that training left, without trusting them: nothing in one is ever run."""

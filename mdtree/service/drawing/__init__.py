"""Reports, comparisons and the map of the zoo, drawn in a process of their own."""

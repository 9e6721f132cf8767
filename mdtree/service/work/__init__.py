"""What measures: a supervisor, its workers, and the confined children that read files and measure networks."""

"""What stands before the application: hosts, origins, sizes, times, connections."""

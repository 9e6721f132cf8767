"""What can be measured with what is given, at which cost, and whether network and data belong together."""

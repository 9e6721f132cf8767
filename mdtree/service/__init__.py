"""The service: uploads and records over HTTP, a queue of measurements that survives crashes, and a page to look at.

It runs no code of its clients: networks and data are named by what the operator registered, files are read in child
processes with limits, and nothing that a client sends is ever a path, an address or a function.
"""

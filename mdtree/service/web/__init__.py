"""The HTTP application under ``/v1``, and the page."""

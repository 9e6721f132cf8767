"""The database: uploads and jobs as rows, the queue, and what the store refuses."""

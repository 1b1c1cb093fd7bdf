"""What `tiercast check` looks at, one subject a module."""

"""What users touch: the HTTP routes, the command line and the launcher of all roles."""

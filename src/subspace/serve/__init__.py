"""A memory as a service: one process that holds model and index, and answers over MCP and HTTP."""

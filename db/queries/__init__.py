"""Questions asked of the store and changes made to it, one module a purpose; each takes an open session."""

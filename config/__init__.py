"""Settings, queue names and scenario files: what every other package may read, and nothing that reads them."""

"""The house in containers: an engine to run it on, and the demo's journey inside Docker Compose."""

"""What whoever runs a host asks of it and does to it: its packages, its tables."""

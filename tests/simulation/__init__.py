"""The deterministic simulator: the product's own logic with simulated clock, net, disk and processes, from one seed."""

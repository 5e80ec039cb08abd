"""The deterministic simulator: the product's own logic with simulated clock, net, disk, processes; one seed."""

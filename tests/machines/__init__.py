"""State machines: random operations against the product and a perfect model in memory."""

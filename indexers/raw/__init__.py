"""The libraries called directly, as their users call them: what `vss bench` measures the backends against."""

"""What is broken on purpose on the way between a leg and its socket."""

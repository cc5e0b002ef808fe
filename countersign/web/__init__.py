"""What a running proxy is asked and told: the control API (:mod:`.server`), and its client (:mod:`.asking`)."""

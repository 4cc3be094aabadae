"""From annotations of one's own to the configuration of a first training and study (``hkd init``)."""

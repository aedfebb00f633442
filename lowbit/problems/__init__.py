"""Problems: networks and functions small enough to know how good an estimated gradient is."""

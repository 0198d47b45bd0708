//! Kafka's own command-line tools, kcat and Java programs.

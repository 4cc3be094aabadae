"""One study as MLflow has it: the store, typed records, and the reader between them."""

"""Detection on image stores, pictures and folders."""

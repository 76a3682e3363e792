"""The import methods, one file each; reached through `imports.METHODS` alone."""

"""The sources of certificates, one file each; reached through `signatures.SOURCES` alone."""

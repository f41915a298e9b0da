"""The vectors of an index version in a Chroma server: loaded whole, verified, searched."""

//go:build soak

package main

// holdFiles is which of the corpus's savefiles are filtered by every name that they have: one in so many.
const holdFiles = 1

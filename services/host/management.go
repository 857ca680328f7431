package host

// isManagement reports whether the device is managed through a link.
func (k *keeper) isManagement(*link) bool { return false }

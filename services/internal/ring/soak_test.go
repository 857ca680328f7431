//go:build soak

package ring

// powerCuts is how often TestPowerCut cuts the power.
const powerCuts = 50

//go:build !soak

package ring

// powerCuts is how often TestPowerCut cuts the power.
const powerCuts = 15

// stories is how many are told.
const stories = 5

// damages is how often TestDamage damages a ring of each kind.
const damages = 6

// trips is how many stories of devices that come and go are told.
const trips = 2

package api

// Where init and the services of an appliance meet. On a host that runs `galvo run` there is none of both.
const (
	// BootPath is the file with a Boot, as JSON, which init writes and everybody may read.
	BootPath = "/run/galvo/boot.json"
	// InitPath is the unix socket where init takes commands of root: one line, such as reboot, poweroff or log engine. It answers
	// with a line that begins with ok or error, and then what was asked for.
	InitPath = "/run/galvo/init"
)

// A Boot says how the start of an appliance went.
type Boot struct {
	Steps    []BootStep `json:"steps"`
	Problems []string   `json:"problems" doc:"What is wrong, as init sees it."`
}

// A BootStep is one thing that init did at the start.
type BootStep struct {
	Phase string  `json:"phase" doc:"early, modules, storage, services, confirm"`
	Step  string  `json:"step"`
	Begin float64 `json:"begin" doc:"Seconds since the kernel started."`
	Took  float64 `json:"took" doc:"Seconds."`
	Error string  `json:"error,omitempty"`
}

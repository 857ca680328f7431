package engine

import (
	"galvo/services/config"
	"galvo/services/internal/memory"
)

// A memoryPlan is the memory plan with the settings that it was made for.
type memoryPlan struct {
	memory.Settings
	*memory.Plan
}

func planMemory(c *config.Config) (*memoryPlan, error) {
	settings, err := memory.Machine(c)
	if err != nil {
		return nil, err
	}
	plan, err := memory.New(settings)
	if err != nil {
		return nil, err
	}
	return &memoryPlan{settings, plan}, nil
}

package host

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/memory"
)

// percent returns the share of the memory that Galvo may use.
func (k *keeper) percent(c *config.Config) int {
	if k.options.Appliance {
		return cmp.Or(c.Engine.MemoryPercent, memory.AppliancePercent)
	}
	return cmp.Or(c.Engine.MemoryPercent, memory.HostPercent)
}

// planMemory makes the plan that the engine will make of a configuration.
func (k *keeper) planMemory(c *config.Config) (*memory.Plan, error) {
	resolved := *c
	resolved.Engine.MemoryPercent = k.percent(c)
	if len(k.options.Interfaces) > 0 || len(c.Ports) == 0 {
		resolved.Ports = k.wanted()
	}
	settings, err := memory.Machine(&resolved)
	if err != nil {
		return nil, err
	}
	return memory.New(settings)
}

// limit holds the engine's control group to the plan, where there is one: what does not keep to its budget ends before the machine does.
func (k *keeper) limit(c *config.Config) {
	if k.options.Cgroups == "" {
		return
	}
	plan, err := k.planMemory(c)
	if err != nil || plan.Share == k.limited {
		return
	}
	file := filepath.Join(k.options.Cgroups, string(api.ServiceEngine), "memory.max")
	if err := os.WriteFile(file, []byte(strconv.FormatUint(plan.Share, 10)), 0); err != nil {
		slog.Error("limit the engine's memory", "error", err)
	}
	k.limited = plan.Share
}

func (s *service) getMemory(context.Context, *api.Nothing) (*api.Reply[api.Memory], error) {
	plan, err := s.keeper.planMemory(s.store.Current())
	if err != nil {
		return nil, err
	}
	reply := memoryReply(plan, s.keeper.memoryUsed())
	return &api.Reply[api.Memory]{Body: reply}, nil
}

// memoryReply is a plan for people, with what is used of it; nil is not known.
func memoryReply(plan *memory.Plan, used map[string]uint64) api.Memory {
	reply := api.Memory{Total: plan.Total, Share: plan.Share, Parts: []api.MemoryPart{}}
	for _, p := range plan.Parts {
		part := api.MemoryPart{Name: p.Name, Want: p.WantBytes, Bytes: p.Bytes, Why: p.Why}
		if n, ok := used[p.Name]; ok {
			part.Used = &n
		}
		if p.Name == memory.Kernel {
			reply.Kernel = p.Bytes
		}
		reply.Parts = append(reply.Parts, part)
	}
	return reply
}

// memoryUsed returns what is in use of each part: what the engine says, and for the rest what the kernel does.
func (k *keeper) memoryUsed() map[string]uint64 {
	used := map[string]uint64{}
	var engine uint64
	if u := k.usage.Load(); u != nil {
		for name, n := range u.Bytes {
			used[name] = n
			engine += n
		}
	}
	if n, err := memory.Used(); err == nil {
		used[memory.Kernel] = n - min(n, engine+used[memory.Program])
	}
	return used
}

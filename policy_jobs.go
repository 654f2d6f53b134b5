package serverless

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// jobMember is a member of a job's settings in the file, nil if it is not set.
type jobMember struct {
	name  string
	value *uint32
}

// members lists what is set, in the order in which it is written.
func (j JobSettings) members() []jobMember {
	members := []jobMember{
		{"memory_mb", &j.MemoryMB}, {"timeout_secs", &j.TimeoutSecs},
		{"max_concurrency", j.MaxConcurrency}, {"keep_warm", j.KeepWarm},
	}
	for i := range 2 {
		if *members[i].value == 0 {
			members[i].value = nil
		}
	}
	return members
}

// Format prints what is set, as the file names it, whatever the verb.
func (j JobSettings) Format(f fmt.State, _ rune) {
	var set []string
	for _, m := range j.members() {
		if m.value != nil {
			set = append(set, fmt.Sprintf("%s:%d", m.name, *m.value))
		}
	}
	fmt.Fprint(f, "{"+strings.Join(set, " ")+"}")
}

func (j JobSettings) equal(other JobSettings) bool {
	return slices.EqualFunc(j.members(), other.members(), func(a, b jobMember) bool {
		return a.value == b.value || a.value != nil && b.value != nil && *a.value == *b.value
	})
}

// normalJobs returns a copy that shares no memory, without jobs that have no settings; nil if none
// is left.
func normalJobs(jobs map[uint32]JobSettings) map[uint32]JobSettings {
	var kept map[uint32]JobSettings
	for id, j := range jobs {
		if j.equal(JobSettings{}) {
			continue
		}
		if j.MaxConcurrency != nil {
			j.MaxConcurrency = new(*j.MaxConcurrency)
		}
		if j.KeepWarm != nil {
			j.KeepWarm = new(*j.KeepWarm)
		}
		if kept == nil {
			kept = map[uint32]JobSettings{}
		}
		kept[id] = j
	}
	return kept
}

// function is a job's function as its settings and its needs ask for it: not rounded to a size that
// is sold, and without an environment.
func (c ServerlessConfig) function(id uint32) faas.Function {
	defaults, own, needs := DefaultPolicy().Serverless, c.Overrides[id], c.Jobs[id]
	timeout := cmp.Or(c.DefaultTimeoutSecs, defaults.DefaultTimeoutSecs)
	if reply := faas.ProviderReplyLimit(c.Provider.Provider); reply > 0 && timeout == defaults.DefaultTimeoutSecs {
		// The default is nobody's wish; a longer timeout that is one gets the provider's own answer.
		timeout = min(timeout, reply)
	}
	return faas.Function{
		JobID:          id,
		MemoryMB:       max(cmp.Or(own.MemoryMB, c.DefaultMemoryMB, defaults.DefaultMemoryMB), needs.MemoryMB),
		TimeoutSecs:    max(cmp.Or(own.TimeoutSecs, timeout), needs.TimeoutSecs),
		MaxConcurrency: *cmp.Or(own.MaxConcurrency, &c.MaxConcurrency),
		KeepWarm:       *cmp.Or(own.KeepWarm, &c.KeepWarm),
	}
}

// settingsWarnings says where jobs get something else than the policy says: more memory or time,
// because their profiles ask for it, and nothing at all if they do not run on FaaS. A default that
// nobody has changed is no wish, and worth no warning.
func settingsWarnings(cfg ServerlessConfig, strategy Strategy) []string {
	var warnings []string
	defaults := DefaultPolicy().Serverless
	for _, id := range strategy.FaaSJobs {
		own, needs := cfg.Overrides[id], cfg.Jobs[id]
		compare := func(what, unit string, own, all, nobodys, asked uint32) {
			if said := cmp.Or(own, all, nobodys); asked > said && (own > 0 || said != nobodys) {
				const text = "job %d gets a %s of %d %s in place of the policy's %d %s, because its profile asks for it"
				warnings = append(warnings, fmt.Sprintf(text, id, what, asked, unit, said, unit))
			}
		}
		compare("memory", "MB", own.MemoryMB, cfg.DefaultMemoryMB, defaults.DefaultMemoryMB, needs.MemoryMB)
		compare("timeout", "s", own.TimeoutSecs, cfg.DefaultTimeoutSecs, defaults.DefaultTimeoutSecs, needs.TimeoutSecs)
	}
	for _, id := range slices.Sorted(maps.Keys(cfg.Overrides)) {
		switch {
		case slices.Contains(strategy.FaaSJobs, id):
		case slices.Contains(strategy.LocalJobs, id):
			const text = "the policy's settings of job %d do nothing, because it does not run on FaaS"
			warnings = append(warnings, fmt.Sprintf(text, id))
		default:
			warnings = append(warnings, fmt.Sprintf("the policy has settings of job %d, which the blueprint does not have", id))
		}
	}
	return warnings
}

package serverless

import (
	"maps"
	"slices"
	"strconv"

	"github.com/tangle-network/blueprint-serverless/internal/document"
)

// rewrite returns the text of base with the policy's settings and the carried members in it.
func (p *Policy) rewrite(base *document.Document, carried ...carriedMember) ([]byte, error) {
	extra := func(depth int) (fields document.Fields) {
		for _, m := range carried {
			if len(m.path) == depth {
				fields = append(fields, document.Field{Name: m.name, Value: m.value})
			}
		}
		return fields
	}
	want := p.Serverless.normal()
	section := base.Root.Get("serverless")
	var changes []document.Change
	if section == nil {
		changes = append(changes, document.Change{Name: "serverless", Value: want.fields(extra(1), extra(2))})
	} else if within := want.changes(section, extra(1), extra(2)); len(within) > 0 {
		changes = append(changes, document.Change{Name: "serverless", Within: within})
	}
	changes = append(changes, additions(extra(0))...)
	if len(changes) == 0 {
		return base.Source(), nil
	}
	return base.Rewrite(changes)
}

func additions(fields document.Fields) (changes []document.Change) {
	for _, f := range fields {
		changes = append(changes, document.Change{Name: f.Name, Value: f.Value})
	}
	return changes
}

// fields returns the section in full.
func (s ServerlessSettings) fields(extra, providerExtra document.Fields) document.Fields {
	fields := document.Fields{
		{Name: "enable", Value: s.Enable},
		{Name: "provider", Value: s.Provider.fields(providerExtra)},
		{Name: "default_memory_mb", Value: s.DefaultMemoryMB},
		{Name: "default_timeout_secs", Value: s.DefaultTimeoutSecs},
		{Name: "fallback_to_vm", Value: s.FallbackToVM},
	}
	if s.MaxConcurrency > 0 {
		fields = append(fields, document.Field{Name: "max_concurrency", Value: s.MaxConcurrency})
	}
	if s.KeepWarm > 0 {
		fields = append(fields, document.Field{Name: "keep_warm", Value: s.KeepWarm})
	}
	if len(s.Jobs) > 0 {
		fields = append(fields, document.Field{Name: "jobs", Value: jobsFields(s.Jobs)})
	}
	if len(s.ProviderConfig) > 0 {
		options := textFields(s.ProviderConfig, optionValue)
		fields = append(fields, document.Field{Name: "provider_config", Value: options})
	}
	return append(fields, extra...)
}

func jobsFields(jobs map[uint32]JobSettings) (fields document.Fields) {
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
		fields = append(fields, document.Field{Name: strconv.FormatUint(uint64(id), 10), Value: jobs[id].fields()})
	}
	return fields
}

func (j JobSettings) fields() (fields document.Fields) {
	for _, m := range j.members() {
		if m.value != nil {
			fields = append(fields, document.Field{Name: m.name, Value: *m.value})
		}
	}
	return fields
}

// jobsChanges returns what makes the section jobs, which says what have says, say what want says.
func jobsChanges(want, have map[uint32]JobSettings, section *document.Value) (changes []document.Change) {
	for _, id := range slices.Sorted(maps.Keys(have)) {
		if _, keep := want[id]; !keep {
			changes = append(changes, document.Change{Name: strconv.FormatUint(uint64(id), 10)})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		name := strconv.FormatUint(uint64(id), 10)
		job, old := want[id], have[id]
		switch {
		case job.equal(old):
		case section.Get(name) == nil:
			changes = append(changes, document.Change{Name: name, Value: job.fields()})
		default:
			changes = append(changes, document.Change{Name: name, Within: job.changes(old)})
		}
	}
	return changes
}

func (j JobSettings) changes(have JobSettings) (changes []document.Change) {
	old := have.members()
	for i, m := range j.members() {
		switch {
		case m.value == nil && old[i].value != nil:
			changes = append(changes, document.Change{Name: m.name})
		case m.value != nil && (old[i].value == nil || *m.value != *old[i].value):
			changes = append(changes, document.Change{Name: m.name, Value: *m.value})
		}
	}
	return changes
}

// textFields returns an object of the texts, each as value writes it.
func textFields(texts map[string]string, value func(string) any) (fields document.Fields) {
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		fields = append(fields, document.Field{Name: name, Value: value(texts[name])})
	}
	return fields
}

func (p ProviderSettings) fields(extra document.Fields) document.Fields {
	var fields document.Fields
	for _, m := range p.members() {
		if m.value != "" {
			fields = append(fields, document.Field{Name: m.name, Value: m.value})
		}
	}
	return append(fields, extra...)
}

// changes returns what makes section, which decodes without a problem, say what s says.
func (s ServerlessSettings) changes(section *document.Value, extra, providerExtra document.Fields) []document.Change {
	d := settingsDecoder{settings: DefaultPolicy().Serverless}
	d.policy(&document.Value{Kind: document.Object, Members: []document.Member{{Name: "serverless", Value: *section}}})
	have := d.settings
	var changes []document.Change
	set := func(differs bool, name string, value any) {
		if differs {
			changes = append(changes, document.Change{Name: name, Value: value})
		}
	}
	set(s.Enable != have.Enable, "enable", s.Enable)
	if provider := section.Get("provider"); provider == nil {
		set(s.Provider != have.Provider || len(providerExtra) > 0, "provider", s.Provider.fields(providerExtra))
	} else if within := append(s.Provider.changes(have.Provider), additions(providerExtra)...); len(within) > 0 {
		changes = append(changes, document.Change{Name: "provider", Within: within})
	}
	set(s.DefaultMemoryMB != have.DefaultMemoryMB, "default_memory_mb", s.DefaultMemoryMB)
	set(s.DefaultTimeoutSecs != have.DefaultTimeoutSecs, "default_timeout_secs", s.DefaultTimeoutSecs)
	set(s.FallbackToVM != have.FallbackToVM, "fallback_to_vm", s.FallbackToVM)
	optional := func(name string, want, have uint32) {
		if want == 0 {
			set(have != 0, name, nil)
		} else {
			set(want != have, name, want)
		}
	}
	optional("max_concurrency", s.MaxConcurrency, have.MaxConcurrency)
	optional("keep_warm", s.KeepWarm, have.KeepWarm)
	jobs := section.Get("jobs")
	switch {
	case maps.EqualFunc(s.Jobs, have.Jobs, JobSettings.equal):
	case len(s.Jobs) == 0:
		set(true, "jobs", nil)
	case jobs == nil || jobs.Kind != document.Object:
		set(true, "jobs", jobsFields(s.Jobs))
	default:
		changes = append(changes, document.Change{Name: "jobs", Within: jobsChanges(s.Jobs, have.Jobs, jobs)})
	}
	options := section.Get("provider_config")
	switch {
	case maps.Equal(s.ProviderConfig, have.ProviderConfig):
	case len(s.ProviderConfig) == 0:
		set(true, "provider_config", nil)
	case options == nil || options.Kind != document.Object:
		set(true, "provider_config", textFields(s.ProviderConfig, optionValue))
	default:
		within := optionChanges(s.ProviderConfig, have.ProviderConfig, options)
		changes = append(changes, document.Change{Name: "provider_config", Within: within})
	}
	return append(changes, additions(extra)...)
}

func (p ProviderSettings) changes(have ProviderSettings) (changes []document.Change) {
	old := have.members()
	for i, m := range p.members() {
		switch {
		case m.value == old[i].value:
		case m.value == "":
			changes = append(changes, document.Change{Name: m.name})
		default:
			changes = append(changes, document.Change{Name: m.name, Value: m.value})
		}
	}
	return changes
}

// optionChanges returns what makes section, which says what have says, say what want says.
func optionChanges(want, have map[string]string, section *document.Value) []document.Change {
	return textChanges(want, have, func(name string) document.Change {
		pairs, before := optionPairs(want[name]), section.Get(name)
		if pairs == nil || before == nil || before.Kind != document.Object {
			return document.Change{Name: name, Value: optionValue(want[name])}
		}
		within := textChanges(pairs, optionPairs(have[name]), func(key string) document.Change {
			return document.Change{Name: key, Value: pairs[key]}
		})
		return document.Change{Name: name, Within: within}
	})
}

// textChanges removes what only have has, and makes the change of what else differs.
func textChanges(want, have map[string]string, change func(name string) document.Change) (changes []document.Change) {
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, keep := want[name]; !keep {
			changes = append(changes, document.Change{Name: name})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if old, there := have[name]; !there || old != want[name] {
			changes = append(changes, change(name))
		}
	}
	return changes
}

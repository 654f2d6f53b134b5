package serverless

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/document"
	"github.com/tangle-network/blueprint-serverless/internal/suggest"
)

// The names of the members that this version knows, grouped by their object.
var (
	policyNames     = []string{"serverless"}
	serverlessNames = []string{
		"enable", "provider", "default_memory_mb", "default_timeout_secs", "fallback_to_vm", "max_concurrency", "keep_warm",
		"jobs", "provider_config",
	}
	jobNames      = []string{"memory_mb", "timeout_secs", "max_concurrency", "keep_warm"}
	providerNames = []string{"type", "region", "project_id", "subscription_id", "endpoint"}
)

// decodePolicy reads the settings of a document over the defaults, and validates them.
func decodePolicy(root *document.Value) (ServerlessSettings, *policyProblem) {
	d := settingsDecoder{settings: DefaultPolicy().Serverless}
	d.policy(root)
	if d.problem != nil {
		return ServerlessSettings{}, d.problem
	}
	if problem := d.settings.problem(); problem != nil {
		problem.offset = offsetOf(root, problem.path)
		return ServerlessSettings{}, problem
	}
	return d.settings, nil
}

// offsetOf returns the offset of the value at path. If that value is missing, it returns the
// offset of the innermost object on the path.
func offsetOf(root *document.Value, path []string) int {
	v := root
	for _, name := range path {
		next := v.Get(name)
		if next == nil {
			break
		}
		v = next
	}
	return v.Start
}

// settingsDecoder stops at the first problem.
type settingsDecoder struct {
	settings ServerlessSettings
	problem  *policyProblem
}

func (d *settingsDecoder) fail(offset int, path []string, format string, args ...any) {
	if d.problem == nil {
		d.problem = problemf(path, format, args...)
		d.problem.offset = offset
	}
}

func (d *settingsDecoder) policy(root *document.Value) {
	if root.Kind != document.Object {
		d.fail(root.Start, nil, `the file must hold an object such as {"serverless": {"enable": true}}, not %s`, root.Kind)
		return
	}
	if !d.members(root, nil, policyNames) {
		return
	}
	section := root.Get("serverless")
	path := []string{"serverless"}
	if section == nil || !d.object(section, path, serverlessNames) {
		return
	}
	s := &d.settings
	d.boolean(section, path, "enable", &s.Enable)
	if provider := section.Get("provider"); provider != nil {
		d.provider(provider, []string{"serverless", "provider"})
	}
	d.number(section, path, "default_memory_mb", &s.DefaultMemoryMB)
	d.number(section, path, "default_timeout_secs", &s.DefaultTimeoutSecs)
	d.boolean(section, path, "fallback_to_vm", &s.FallbackToVM)
	// Optional members may be null, because serializers write null for what is not set.
	d.optional(section, path, "max_concurrency", &s.MaxConcurrency)
	d.optional(section, path, "keep_warm", &s.KeepWarm)
	if v := section.Get("jobs"); v != nil && v.Kind != document.Null {
		d.jobs(v, []string{"serverless", "jobs"})
	}
	if v := section.Get("provider_config"); v != nil && v.Kind != document.Null {
		d.options(v, []string{"serverless", "provider_config"})
	}
}

func (d *settingsDecoder) object(v *document.Value, path, known []string) bool {
	if v.Kind != document.Object {
		d.fail(v.Start, path, "must be an object, not %s: leave it out for the defaults", v.Kind)
		return false
	}
	return d.members(v, path, known)
}

// members refuses duplicate and damaged names, and names that look like a known name misspelt. If
// it kept a misspelt name as foreign, the setting would silently have no effect. If known is nil,
// the object may have any names.
func (d *settingsDecoder) members(v *document.Value, path, known []string) bool {
	for _, m := range v.Members {
		if m.Damaged {
			d.fail(m.NameStart, path, "a name contains half a surrogate pair")
		} else if near, ok := suggest.Name(m.Name, known); ok {
			d.fail(m.NameStart, append(slices.Clip(path), m.Name), "unknown name: did you mean %q?", near)
		}
	}
	if m, ok := v.Duplicate(); ok {
		d.fail(m.NameStart, append(slices.Clip(path), m.Name), "duplicate name: remove one")
	}
	return d.problem == nil
}

func (d *settingsDecoder) boolean(section *document.Value, path []string, name string, to *bool) {
	v := section.Get(name)
	if v == nil {
		return
	}
	if v.Kind != document.Bool {
		d.fail(v.Start, append(slices.Clip(path), name), "must be true or false, not %s", v.Kind)
		return
	}
	*to = v.Text == "true"
}

func (d *settingsDecoder) number(section *document.Value, path []string, name string, to *uint32) {
	v := section.Get(name)
	if v == nil {
		return
	}
	path = append(slices.Clip(path), name)
	if v.Kind != document.Number {
		d.fail(v.Start, path, "must be a whole number, not %s", v.Kind)
		return
	}
	n, err := strconv.ParseUint(v.Text, 10, 32)
	switch {
	case err == nil:
		*to = uint32(n)
	case strings.ContainsAny(v.Text, ".eE") || strings.ContainsAny(v.Text, "in"): // inf and nan too
		d.fail(v.Start, path, "must be a whole number, without fraction or exponent, not %s", clip(v.Text))
	case strings.HasPrefix(v.Text, "-"):
		d.fail(v.Start, path, "must not be negative: %s", clip(v.Text))
	default:
		d.fail(v.Start, path, "%s is above %d", clip(v.Text), ^uint32(0))
	}
}

// optional is number for a member that may be null. It reports whether the member is present and
// not null.
func (d *settingsDecoder) optional(section *document.Value, path []string, name string, to *uint32) bool {
	v := section.Get(name)
	if v == nil || v.Kind == document.Null {
		return false
	}
	d.number(section, path, name, to)
	return true
}

// jobs reads the settings of single jobs. It refuses unknown names: a setting of a single job that
// had no effect would surprise whoever wrote it.
func (d *settingsDecoder) jobs(v *document.Value, path []string) {
	if !d.object(v, path, nil) {
		return
	}
	jobs := map[uint32]JobSettings{}
	for i := range v.Members {
		m := &v.Members[i]
		path := append(slices.Clip(path), m.Name)
		id, err := strconv.ParseUint(m.Name, 10, 32)
		if err != nil || strconv.FormatUint(id, 10) != m.Name {
			d.fail(m.NameStart, path, "is not a job id: ids are whole numbers from 0")
			return
		}
		jobs[uint32(id)] = d.job(&m.Value, path)
	}
	d.settings.Jobs = normalJobs(jobs)
}

func (d *settingsDecoder) job(v *document.Value, path []string) (job JobSettings) {
	if !d.object(v, path, jobNames) {
		return job
	}
	for _, m := range v.Members {
		if !slices.Contains(jobNames, m.Name) {
			known := strings.Join(jobNames, ", ")
			d.fail(m.NameStart, append(slices.Clip(path), m.Name), "unknown name: settings of a job are %s", known)
		}
	}
	for _, least := range []struct {
		name, unit string
		to         *uint32
	}{{"memory_mb", "MB", &job.MemoryMB}, {"timeout_secs", "s", &job.TimeoutSecs}} {
		if d.optional(v, path, least.name, least.to) && *least.to == 0 {
			d.fail(v.Get(least.name).Start, append(slices.Clip(path), least.name), "must be at least 1 %s, not 0", least.unit)
		}
	}
	var concurrency, warm uint32
	if d.optional(v, path, "max_concurrency", &concurrency) {
		job.MaxConcurrency = &concurrency
	}
	if d.optional(v, path, "keep_warm", &warm) {
		job.KeepWarm = &warm
	}
	return job
}

func (d *settingsDecoder) text(v *document.Value, path []string, to *string) {
	switch {
	case v.Kind != document.String:
		d.fail(v.Start, path, "must be a string, not %s", v.Kind)
	case v.Damaged:
		d.fail(v.Start, path, "contains half a surrogate pair")
	case v.Text == "":
		d.fail(v.Start, path, "is empty")
	default:
		*to = v.Text
	}
}

func (d *settingsDecoder) provider(v *document.Value, path []string) {
	if !d.object(v, path, providerNames) {
		return
	}
	p := ProviderSettings{Type: d.settings.Provider.Type}
	for _, m := range []struct {
		name string
		to   *string
	}{{"type", &p.Type}, {"region", &p.Region}, {"project_id", &p.ProjectID}, {"subscription_id", &p.SubscriptionID},
		{"endpoint", &p.Endpoint}} {
		if member := v.Get(m.name); member != nil {
			d.text(member, append(slices.Clip(path), m.name), m.to)
		}
	}
	if other := p.ProjectID + p.SubscriptionID + p.Endpoint; v.Get("type") == nil && other != "" {
		d.fail(v.Start, append(slices.Clip(path), "type"),
			"is missing, and the other members do not belong to the default, %s", p.Type)
	}
	d.settings.Provider = ServerlessSettings{Provider: p}.normal().Provider
}

// options reads provider_config. No error contains one of its values.
func (d *settingsDecoder) options(v *document.Value, path []string) {
	if !d.object(v, path, nil) || len(v.Members) == 0 {
		return
	}
	d.settings.ProviderConfig = make(map[string]string, len(v.Members))
	for i := range v.Members {
		m := &v.Members[i]
		d.settings.ProviderConfig[m.Name] = d.option(&m.Value, append(slices.Clip(path), m.Name))
	}
}

// option returns the text of an option. The text of an array or object is JSON, which loses
// nothing.
func (d *settingsDecoder) option(v *document.Value, path []string) string {
	switch v.Kind {
	case document.Array:
		items := make([]string, len(v.Elems))
		for i := range v.Elems {
			items[i] = d.optionScalar(&v.Elems[i], path, "in an array a string, a number, true or false")
		}
		return optionText(items)
	case document.Object:
		pairs := make(map[string]string, len(v.Members))
		for i := range v.Members {
			m := &v.Members[i]
			path := append(slices.Clip(path), m.Name)
			pairs[m.Name] = d.optionScalar(&m.Value, path, "in an object a string, a number, true or false")
		}
		d.members(v, path, nil)
		return optionText(pairs)
	}
	return d.optionScalar(v, path, "a string, a number, true or false, or an array or object of those")
}

func (d *settingsDecoder) optionScalar(v *document.Value, path []string, want string) string {
	switch {
	case v.Kind != document.String && v.Kind != document.Number && v.Kind != document.Bool:
		d.fail(v.Start, path, "must be %s, not %s", want, v.Kind)
	case v.Damaged:
		d.fail(v.Start, path, "contains half a surrogate pair")
	}
	return v.Text
}

// optionText encodes a list or pairs as canonical JSON.
func optionText(listOrPairs any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(listOrPairs); err != nil {
		panic(err) // strings always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// optionValue returns the value that the file holds for the text of an option: a list or pairs if
// option would read them as that text, and the text itself otherwise.
func optionValue(text string) any {
	var list []string
	if strings.HasPrefix(text, "[") && json.Unmarshal([]byte(text), &list) == nil && optionText(list) == text {
		return list
	}
	if pairs := optionPairs(text); pairs != nil {
		return textFields(pairs, func(value string) any { return value })
	}
	return text
}

// optionPairs returns the pairs that option encoded as text, or nil.
func optionPairs(text string) (pairs map[string]string) {
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &pairs) == nil && optionText(pairs) == text {
		return pairs
	}
	return nil
}

// rewrite returns the text of base with the policy's settings and the carried members.
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

// fields returns the whole section.
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

// jobsChanges returns the changes that turn the settings of section from have into want.
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

// textFields returns an object of texts, each converted by value.
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

// changes returns the changes that turn the settings of section into s. The section must be valid.
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

// optionChanges returns the changes that turn the options of section from have into want.
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

// textChanges removes the names that only have contains, and calls change for every other
// difference.
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

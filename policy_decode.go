package serverless

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/document"
	"github.com/tangle-network/blueprint-serverless/internal/suggest"
)

// Names of the members that this version knows, by the path of their object.
var (
	policyNames     = []string{"serverless"}
	serverlessNames = []string{
		"enable", "provider", "default_memory_mb", "default_timeout_secs", "fallback_to_vm", "max_concurrency", "keep_warm",
		"jobs", "provider_config",
	}
	jobNames      = []string{"memory_mb", "timeout_secs", "max_concurrency", "keep_warm"}
	providerNames = []string{"type", "region", "project_id", "subscription_id", "endpoint"}
)

// decodePolicy reads the settings of a document, starting from the defaults, and checks them.
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

// offsetOf returns where the value at path stands, or, where it is missing, the object that it is missing from.
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
	// The optional members may be null, as serializers write what is not set.
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
		d.fail(v.Start, path, "must be an object, not %s; leave it out for the defaults", v.Kind)
		return false
	}
	return d.members(v, path, known)
}

// members refuses the names that cannot be kept apart, and those that are known names misspelt: kept as foreign, they would quietly switch
// off what they were meant to switch on. Known is nil where any name may stand.
func (d *settingsDecoder) members(v *document.Value, path, known []string) bool {
	for _, m := range v.Members {
		if m.Damaged {
			d.fail(m.NameStart, path, "a name holds half a surrogate pair")
		} else if near, ok := suggest.Name(m.Name, known); ok {
			d.fail(m.NameStart, append(slices.Clip(path), m.Name), "unknown name: did you mean %q?", near)
		}
	}
	if m, ok := v.Duplicate(); ok {
		d.fail(m.NameStart, append(slices.Clip(path), m.Name), "stands twice: remove one")
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
	case strings.ContainsAny(v.Text, ".eE") || strings.ContainsAny(v.Text, "in"): // also inf and nan
		d.fail(v.Start, path, "must be a whole number, without fraction or exponent, not %s", clip(v.Text))
	case strings.HasPrefix(v.Text, "-"):
		d.fail(v.Start, path, "must not be negative: %s", clip(v.Text))
	default:
		d.fail(v.Start, path, "%s is above %d", clip(v.Text), ^uint32(0))
	}
}

// optional is number for a member that may be null, and reports whether it is there and no null.
func (d *settingsDecoder) optional(section *document.Value, path []string, name string, to *uint32) bool {
	v := section.Get(name)
	if v == nil || v.Kind == document.Null {
		return false
	}
	d.number(section, path, name, to)
	return true
}

// jobs reads the settings of single jobs. No other names may stand there than those that are known: whoever writes to a
// single job wants something of it.
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
			d.fail(m.NameStart, path, "is no id of a job: they are whole numbers from 0 on")
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
		d.fail(v.Start, path, "holds half a surrogate pair")
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
			"is missing, and what stands here does not belong to the default, %s", p.Type)
	}
	d.settings.Provider = ServerlessSettings{Provider: p}.normal().Provider
}

// options reads provider_config. No error shows a value of it.
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

// option returns the text of an option: that of an array or object as JSON, which loses nothing.
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
		d.fail(v.Start, path, "holds half a surrogate pair")
	}
	return v.Text
}

// optionText writes a list or pairs as JSON, the same always in the same way.
func optionText(listOrPairs any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(listOrPairs); err != nil {
		panic(err) // strings always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// optionValue is what a file says for the text of an option: a list or pairs if option would read them
// as that text, else the text.
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

// optionPairs returns the pairs that option has made a text of, or nil.
func optionPairs(text string) (pairs map[string]string) {
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &pairs) == nil && optionText(pairs) == text {
		return pairs
	}
	return nil
}

package faas

import (
	"cmp"
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// ProviderInfo is what a provider says of itself when it registers: data, so that limits, flags, documentation and redaction need no client.
type ProviderInfo struct {
	// Limits and MemorySizes are the provider's. For the providers of this module they are known beforehand and may be left zero; of another provider
	// they have to be set, or no job fits it.
	Limits      Limits
	MemorySizes MemorySizes
	// MaxParallel is how many units an engine may change at the same time; 0 means 8.
	MaxParallel int
	// AtomicUpdate says that Converge replaces a working function without a moment in which it does not answer.
	AtomicUpdate bool
	// Resolve fills in what a configuration leaves to the environment and to the provider's defaults,
	// as far as it tells where a service is: region, project, subscription. Options with Place that name
	// a variable are filled in before. It does no I/O. It is nil for a provider without such defaults. See [Resolve].
	Resolve func(cfg Config) Config
	// Options declare what Config.Options may hold. Open refuses anything else, by [ParseOptions],
	// before the provider sees the configuration.
	Options []Option
	// Open makes an executor. It must not call the provider before the configuration is checked, and must do no I/O that changes anything.
	Open func(ctx context.Context, cfg Config) (Executor, error)
	// ExcludedBy is set, instead of Open, by the file that stands in for a provider left out by build tags: the tag that brings it back.
	ExcludedBy string
}

var registry struct {
	sync.RWMutex
	m map[string]ProviderInfo
}

// Register makes a provider available to [Open] under a name. It is meant to be called from the init function of the provider's package. It
// panics if the name is empty or already taken, or if the provider has neither Open nor ExcludedBy.
func Register(name string, p ProviderInfo) {
	if name == "" {
		panic("faas: Register with an empty provider name")
	}
	if (p.Open == nil) == (p.ExcludedBy == "") {
		panic("faas: Register " + name + ": exactly one of Open and ExcludedBy must be set")
	}
	if k, ok := known[name]; ok {
		p.Limits, p.MemorySizes = k.limits, k.sizes
	}
	if p.MaxParallel <= 0 {
		p.MaxParallel = 8
	}
	p.Options = slices.Clone(p.Options)
	for i, o := range p.Options {
		p.Options[i].Type = o.typed()
	}
	registry.Lock()
	defer registry.Unlock()
	if _, dup := registry.m[name]; dup {
		panic("faas: Register called twice for provider " + name)
	}
	if registry.m == nil {
		registry.m = map[string]ProviderInfo{}
	}
	registry.m[name] = p
}

func lookup(name string) (ProviderInfo, bool) {
	registry.RLock()
	defer registry.RUnlock()
	p, ok := registry.m[name]
	return p, ok
}

// Provider returns what the linked provider of that name registered. A provider left out by build tags is not linked.
func Provider(name string) (ProviderInfo, bool) {
	p, ok := lookup(name)
	return p, ok && p.Open != nil
}

// Names returns the names of the linked providers, sorted.
func Names() []string {
	registry.RLock()
	defer registry.RUnlock()
	var names []string
	for name, p := range registry.m {
		if p.Open != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// KnownNames returns the names that a policy may use, sorted: the providers of this module, and all others that are registered.
func KnownNames() []string {
	names := slices.AppendSeq(Names(), maps.Keys(known))
	slices.Sort(names)
	return slices.Compact(names)
}

// Resolve returns cfg with every part of the place that cfg leaves open filled in, from the
// environment and the provider's defaults. Whoever records where a service is records what Resolve
// returned, so that a variable that changes later does not move the service. A provider that is not
// linked resolves nothing.
func Resolve(cfg Config) Config {
	p, _ := lookup(cfg.Provider)
	options := maps.Clone(cfg.Options)
	for _, o := range p.Options {
		if !o.Place || o.Env == "" || strings.TrimSpace(options[o.Name]) != "" {
			continue
		}
		if value := cmp.Or(strings.TrimSpace(os.Getenv(o.Env)), o.Default); value != "" {
			if options == nil {
				options = map[string]string{}
			}
			options[o.Name] = value
		}
	}
	cfg.Options = options
	if p.Resolve == nil {
		return cfg
	}
	return p.Resolve(cfg)
}

// Open returns an executor of cfg.Provider bound to cfg.Service.
//
// The error is ErrNotLinked when the program does not link that provider, and names the import or the build tag that mends it;
// ErrInvalidArgument for an unknown provider or an option that [ParseOptions] refuses; otherwise the provider's own. The executor must be closed.
func Open(ctx context.Context, cfg Config) (Executor, error) {
	p, err := linked(cfg.Provider)
	if err != nil {
		return nil, err
	}
	if cfg.Service == "" {
		return nil, Errorf(ErrInvalidArgument, "open", cfg.Provider,
			"the service name is empty: an executor is bound to one service")
	}
	if _, err := ParseOptions(cfg, p.Options); err != nil {
		return nil, err
	}
	exec, err := p.Open(ctx, Resolve(cfg)) // with options of its own: the caller may go on with the given ones
	if err != nil {
		return nil, err
	}
	if exec == nil {
		return nil, Errorf(ErrInternal, "open", cfg.Provider, "the provider returned neither an executor nor an error")
	}
	return exec, nil
}

// CheckLinked returns nil if [Open] could find the provider, else the ErrNotLinked or ErrInvalidArgument that Open would return.
func CheckLinked(name string) error {
	_, err := linked(name)
	return err
}

func linked(name string) (ProviderInfo, error) {
	p, ok := lookup(name)
	k, isKnown := known[name]
	switch {
	case ok && p.Open != nil:
		return p, nil
	case ok:
		return p, Errorf(ErrNotLinked, "", "", "provider %q was left out of this build by -tags faas_only; add tag %s", name,
			p.ExcludedBy)
	case isKnown:
		list := "none"
		if names := Names(); len(names) > 0 {
			list = strings.Join(names, ", ")
		}
		return p, Errorf(ErrNotLinked, "", "", "provider %q is not linked in: import _ %q (linked: %s)", name, k.importPath,
			list)
	case name == "":
		return p, Errorf(ErrInvalidArgument, "open", "", "no provider is named (known: %s)", strings.Join(KnownNames(), ", "))
	default:
		return p, Errorf(ErrInvalidArgument, "open", "", "unknown provider %q (known: %s; forgotten import?)", name,
			strings.Join(KnownNames(), ", "))
	}
}

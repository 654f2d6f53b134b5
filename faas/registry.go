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

// ProviderInfo is what a provider declares when it registers. It is data, so that limits, flags,
// documentation and redaction need no client.
type ProviderInfo struct {
	// Limits and MemorySizes are the provider's. The providers of this module may leave them zero,
	// since they are known. Other providers must set them, or no job fits.
	Limits      Limits
	MemorySizes MemorySizes
	// MaxParallel is how many units an engine may change at the same time; 0 means 8.
	MaxParallel int
	// AtomicUpdate says that a working function answers at every moment while Converge replaces it.
	AtomicUpdate bool
	// Resolve fills in the parts of a service's place (region, project, subscription) that a
	// configuration leaves to the environment or to the provider's defaults. Options with Place and
	// Env are filled in before. Resolve does no I/O. It is nil if the provider has no such defaults.
	// See the function [Resolve].
	Resolve func(cfg Config) Config
	// Options declare what Config.Options may hold. Open refuses anything else, by [ParseOptions],
	// before the provider sees the configuration.
	Options []Option
	// Open makes an executor. It must check the configuration before it calls the provider, and must
	// change nothing.
	Open func(ctx context.Context, cfg Config) (Executor, error)
	// ExcludedBy is set instead of Open if build tags left the provider out. It is the tag that
	// brings the provider back.
	ExcludedBy string
}

var registry struct {
	sync.RWMutex
	m map[string]ProviderInfo
}

// Register makes a provider available to [Open] under a name. The init function of the provider's
// package calls it. It panics if the name is empty or taken, or unless exactly one of Open and
// ExcludedBy is set.
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

// Provider returns what the linked provider of that name registered. A provider that build tags
// left out is not linked.
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

// KnownNames returns the names that a policy may use, sorted: the providers of this module and
// all others that are registered.
func KnownNames() []string {
	names := slices.AppendSeq(Names(), maps.Keys(known))
	slices.Sort(names)
	return slices.Compact(names)
}

// Resolve returns cfg with the parts of the place that cfg leaves open filled in from the
// environment and the provider's defaults. Code that records where a service is records what
// Resolve returned, so that the service does not move if a variable changes later. Resolve
// changes nothing for a provider that is not linked.
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

// Open returns an executor of cfg.Provider bound to cfg.Service. The caller must close it.
//
// The error is ErrNotLinked if the program does not link the provider, and names the import or
// the build tag that fixes that; ErrInvalidArgument for an unknown provider or an option that
// [ParseOptions] refuses; otherwise the provider's own.
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

// CheckLinked returns nil if [Open] would find the provider, else the ErrNotLinked or
// ErrInvalidArgument that Open would return.
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

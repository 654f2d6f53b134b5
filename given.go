package serverless

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// The kinds of things that a deployment is given beside the binary, and that a later one must not
// drop by leaving them out. Ledgers hold their names, never values.
const (
	givenEnv      = "env."    // a variable of ServiceSpec.Env
	givenOption   = "option." // an option of the provider
	givenRPC      = "chain.rpc"
	givenContract = "chain.contract"
)

// NotGivenError says what the last deployment of a service was given and this one is not. Deploy,
// DeployServerless, NewPlan and Apply return it as the cause of an ErrInvalidArgument, before the
// first change. [WithDropped] drops what is not wanted any more.
type NotGivenError struct {
	Service string
	// Names are sorted: "env.NAME" for a variable of ServiceSpec.Env, "option.NAME" for an option of
	// the provider, "chain.rpc" and "chain.contract" for [WithRPC] and [WithContract].
	Names []string
}

// Error names what is missing, and says what to do.
func (e *NotGivenError) Error() string {
	return fmt.Sprintf("the last deployment of service %q was given %s, and this one is not: give it again, or drop "+
		"it (WithDropped)",
		e.Service, strings.Join(e.Names, ", "))
}

// WithDropped allows a deployment to go without what the last one was given, by the names of
// [NotGivenError]. Without it, leaving something out is an error, so that a variable or the chain's
// address that was forgotten once is not lost.
func WithDropped(names ...string) DeployOption {
	return func(o *deployOptions) { o.dropped = append(o.dropped, names...) }
}

// given names what this deployment is given. What it does not look at, as the chain where metadata
// were handed in, it carries over from the last one.
func (o *deployOptions) given(spec ServiceSpec, provider faas.Config, last []string) []string {
	names := []string{}
	for name := range spec.Env {
		names = append(names, givenEnv+name)
	}
	for name := range provider.Options {
		names = append(names, givenOption+name)
	}
	if o.fetched {
		f := newFetchOptions(o.fetch)
		if len(f.rpc) > 0 {
			names = append(names, givenRPC)
		}
		if address, err := contractAddress(f.contract); err == nil && address != "" {
			names = append(names, givenContract)
		}
	} else {
		for _, name := range last {
			if name == givenRPC || name == givenContract {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// lastGiven names what the last deployment of the service was given, as far as the ledgers tell: the
// one at this place, or else the latest elsewhere, whose provider had options of its own.
func lastGiven(here ledger.Record, elsewhere []ledger.Record) []string {
	if names := recordGiven(here); len(names) > 0 || !here.Updated.IsZero() {
		return names
	}
	var latest ledger.Record
	for _, r := range elsewhere {
		if r.Updated.After(latest.Updated) {
			latest = r
		}
	}
	return slices.DeleteFunc(recordGiven(latest), func(name string) bool { return strings.HasPrefix(name, givenOption) })
}

// recordGiven is what a record says. One of an older version knows the environment of its units.
func recordGiven(r ledger.Record) []string {
	if r.Given != nil {
		return slices.Clone(r.Given)
	}
	names := []string{}
	for _, u := range r.Units {
		for _, name := range u.EnvNames {
			names = append(names, givenEnv+name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// checkGiven returns a NotGivenError for what the last deployment was given and this one is not.
func (o *deployOptions) checkGiven(service string, now, last []string) error {
	missing := slices.DeleteFunc(slices.Clone(last), func(name string) bool {
		return slices.Contains(now, name) || slices.Contains(o.dropped, name)
	})
	if len(missing) == 0 {
		return nil
	}
	return stateError{faas.Errorf(faas.ErrInvalidArgument, "deploy", "", "%w", &NotGivenError{service, missing})}
}

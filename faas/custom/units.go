package custom

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"runtime"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// Limits of the protocol.
const (
	maxUnpacked    = 250 << 20 // bytes of the binary
	maxPackage     = 50 << 20  // bytes of the zip
	minMemoryMB    = 128
	maxEnvironment = 64 << 10 // bytes of the configuration header: more than this few HTTP servers take
	// defaultConcurrency is the concurrency that the protocol requires of every platform. It is sent
	// for a function that wants the provider's default.
	defaultConcurrency = 100
)

// Units makes one unit per function. The package contains only the binary, as "bootstrap". Units
// accepts only executables that run on a Linux platform and, if the endpoint is on this machine, on
// this machine.
func (e *Executor) Units(bin *faas.Binary, functions []faas.Function) ([]faas.Unit, error) {
	functions, err := e.takes().Check(functions)
	if err != nil {
		return nil, err
	}
	var units []faas.Unit
	for _, f := range functions {
		if err := e.checkBinary(bin, f.JobID); err != nil {
			return nil, err
		}
		e.hide(f)
		units = append(units, faas.Unit{
			ID: kit.ProtocolNames.Of(e.set.service, f.JobID), Functions: []faas.Function{f}, Files: faas.BootstrapFiles(bin),
		})
	}
	return units, nil
}

func refuse(code faas.Code, jobID uint32, format string, args ...any) error {
	return faas.JobErrorf(code, "units", faas.Custom, jobID, format, args...)
}

func (e *Executor) checkBinary(bin *faas.Binary, jobID uint32) error {
	if bin == nil || bin.Path == "" {
		return refuse(faas.ErrInvalidArgument, jobID, "there is no binary to deploy")
	}
	if bin.Size > maxUnpacked {
		return refuse(faas.ErrTooLarge, jobID, "the binary has %d bytes, the limit of the protocol is %d", bin.Size,
			maxUnpacked)
	}
	// such as the platform of this module on a developer's machine
	if bin.OS == runtime.GOOS && httputil.IsLoopback(e.set.base.Hostname()) {
		return nil
	}
	if err := bin.CheckLinux(); err != nil {
		return refuse(faas.CodeOf(err), jobID, "%w", err)
	}
	return nil
}

// hide makes the executor hide the function's environment in everything that the platform writes.
func (e *Executor) hide(f faas.Function) {
	if len(f.Env) > 0 {
		e.clean.Add(configHeader(f))
		e.clean.Add(f.Env.Values()...)
	}
}

// takes returns what platforms of the protocol accept of functions.
func (e *Executor) takes() kit.FunctionRules {
	return kit.FunctionRules{
		Provider: faas.Custom, MinMemoryMB: minMemoryMB,
		MaxEnvironment: maxEnvironment, EnvironmentSize: func(f faas.Function) int { return len(configHeader(f)) },
		Special: func(f faas.Function) error {
			isSet := func(value string) bool { return value != "" }
			if e.set.inClear && !e.invokeOnly() && slices.ContainsFunc(f.Env.Values(), isSet) {
				return refuse(faas.ErrInvalidArgument, f.JobID,
					"the values of its environment would go over plain http to %s: use https, or set option allow_insecure to true",
					e.set.base.Host)
			}
			return nil
		},
	}
}

// configHeader returns the value of X-Blueprint-Config.
func configHeader(f faas.Function) string {
	env := f.Env.Reveal()
	if env == nil {
		env = map[string]string{}
	}
	text, err := json.Marshal(deployConfig{f.MemoryMB, f.TimeoutSecs, cmp.Or(f.MaxConcurrency, defaultConcurrency), env})
	if err != nil {
		panic("faas/custom: a configuration does not marshal: " + err.Error()) // numbers and strings always do
	}
	return base64.StdEncoding.EncodeToString(text)
}

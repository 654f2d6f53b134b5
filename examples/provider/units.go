package provider

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Units makes a unit of every function. It is pure, and refuses what this platform cannot run.
func (e *Executor) Units(bin *faas.Binary, functions []faas.Function) ([]faas.Unit, error) {
	if bin == nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "units", Name, "there is no binary")
	}
	units := make([]faas.Unit, 0, len(functions))
	for _, f := range functions {
		if err := check(f); err != nil {
			return nil, err
		}
		units = append(units, faas.Unit{
			ID: e.unit(f.JobID), Functions: []faas.Function{f},
			Files: []faas.PackageFile{{Name: "bootstrap", Path: bin.Path, Mode: 0o755}},
		})
	}
	slices.SortFunc(units, func(a, b faas.Unit) int { return cmp.Compare(a.Functions[0].JobID, b.Functions[0].JobID) })
	for i := range len(units) - 1 {
		if units[i].ID == units[i+1].ID {
			return nil, faas.JobErrorf(faas.ErrInvalidArgument, "units", Name, units[i].Functions[0].JobID,
				"the job is wanted twice")
		}
	}
	return units, nil
}

// unit names a function's directory.
func (e *Executor) unit(jobID uint32) string { return fmt.Sprintf("%s%d", e.prefix(), jobID) }

// prefix begins the names of the service's directories and of no other service's.
func (e *Executor) prefix() string { return fmt.Sprintf("%x-job", sha256.Sum256([]byte(e.service))) }

func check(f faas.Function) error {
	refuse := func(code faas.Code, format string, args ...any) error {
		return faas.JobErrorf(code, "units", Name, f.JobID, format, args...)
	}
	switch {
	case f.MemoryMB == 0 || f.TimeoutSecs == 0:
		return refuse(faas.ErrInvalidArgument, "memory is %d MB and timeout %d s: both have to be set", f.MemoryMB,
			f.TimeoutSecs)
	case f.MemoryMB > limits.MaxMemoryMB:
		return refuse(faas.ErrTooLarge, "memory of %d MB is above the limit of %d MB", f.MemoryMB, limits.MaxMemoryMB)
	case f.TimeoutSecs > limits.MaxTimeoutSecs:
		return refuse(faas.ErrTooLarge, "a timeout of %d s is above the limit of %d s", f.TimeoutSecs, limits.MaxTimeoutSecs)
	case f.MaxConcurrency > 0 || f.KeepWarm > 0:
		return refuse(faas.ErrUnsupported, "max_concurrency is %d and keep_warm %d: this platform has neither",
			f.MaxConcurrency, f.KeepWarm)
	}
	for name := range f.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return refuse(faas.ErrInvalidArgument, "environment variable %q: a name is not empty and has neither = nor NUL",
				name)
		}
	}
	return nil
}

//go:build !faas_only || faas_gcp

package gcp

import (
	"bytes"
	_ "embed"
	"slices"
	"strconv"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Limits beyond those in faas.Limits. Sources:
// https://cloud.google.com/functions/docs/configuring/env-var and the quotas page.
const (
	maxEnvironment = 32 << 10  // bytes of names and values
	maxUnpacked    = 500 << 20 // bytes of the package
)

// reservedEnv lists the environment variables that Google sets itself and does not let a caller
// set.
var reservedEnv = []string{"FUNCTION_TARGET", "FUNCTION_SIGNATURE_TYPE", "K_SERVICE", "K_REVISION", "K_CONFIGURATION",
	"PORT"}

// glibc lists the shared libraries that every one of Google's images has, and loader is theirs.
var glibc = []string{
	"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2", "libutil.so.1",
	"libgcc_s.so.1", "ld-linux-x86-64.so.2",
}

const loader = "/lib64/ld-linux-x86-64.so.2"

// The source shim, from which Google builds the program that starts the binary. It is never linked
// into this package.
var (
	//go:embed internal/shim/exec/job.go
	execShim []byte
	//go:embed internal/shim/pipe/job.go
	pipeShim []byte
)

// shimModule is the shim's go.mod. It has no requirements and names an old version of Go, so that
// every builder accepts it.
const shimModule = "module shim.example/job\n\ngo 1.21\n"

func (h buildHost) files(bin *faas.Binary) ([]faas.PackageFile, error) {
	shim := execShim
	if bin.Protocols != faas.SpeaksAll {
		shim = pipeShim
	}
	shim = bytes.TrimPrefix(shim, []byte("//go:build linux\n\n")) // it is for this module's own builds
	return append([]faas.PackageFile{{Name: "go.mod", Content: []byte(shimModule)}, {Name: "job.go", Content: shim}},
		faas.BootstrapFiles(bin)...), nil
}

// Units makes one unit per function. The package holds the binary as "bootstrap". For a build by
// Cloud Functions, it also holds the source of a shim. The shim becomes a binary that links
// faas/job; around a binary that speaks only stdin and stdout, it serves HTTP and runs the binary
// once per invocation.
func (e *Executor) Units(bin *faas.Binary, functions []faas.Function) ([]faas.Unit, error) {
	functions, err := e.takes().Check(functions)
	if err != nil {
		return nil, err
	}
	var units []faas.Unit
	for _, f := range functions {
		if err := checkBinary(bin, f.JobID); err != nil {
			return nil, err
		}
		files, err := e.host.files(bin)
		if err != nil {
			return nil, refuse(faas.CodeOf(err), f.JobID, "%w", err)
		}
		units = append(units, faas.Unit{ID: kit.CloudRunNames.Of(e.set.service, f.JobID), Functions: []faas.Function{f},
			Files: files, Compact: bin.Compact})
	}
	return units, nil
}

func refuse(code faas.Code, jobID uint32, format string, args ...any) error {
	return faas.JobErrorf(code, "units", faas.GCPFunctions, jobID, format, args...)
}

func checkBinary(bin *faas.Binary, jobID uint32) error {
	if bin == nil || bin.Path == "" {
		return refuse(faas.ErrInvalidArgument, jobID, "there is no binary to deploy")
	}
	if err := bin.CheckLinux(faas.AMD64); err != nil {
		return refuse(faas.CodeOf(err), jobID, "%w", err)
	}
	if bin.Size > maxUnpacked {
		return refuse(faas.ErrTooLarge, jobID, "the binary has %d bytes; the limit is %d: strip it (-ldflags=-s)", bin.Size,
			maxUnpacked)
	}
	if bin.Static || bin.Format == faas.FormatScript {
		return nil
	}
	isForeign := func(library string) bool { return !slices.Contains(glibc, library) }
	if bin.Interpreter != loader || slices.ContainsFunc(bin.Libraries, isForeign) {
		err := bin.CheckStatic()
		return refuse(faas.CodeOf(err), jobID, "%w", err)
	}
	return nil
}

// perProcessors gives the least and the most memory, in MiB, of an instance with that many
// processors. Source: https://cloud.google.com/run/docs/configuring/services/cpu
var perProcessors = map[float64]struct{ least, most uint32 }{
	1: {128, 4096}, 2: {128, 8192}, 4: {2048, 16384}, 6: {4096, 24576}, 8: {4096, 32768},
}

// leastProcessors is the smallest fraction of a processor that Google sells.
const leastProcessors = 0.08

// processors reads a number of processors; 0 means the default.
func processors(cpu string) float64 {
	n, _ := strconv.ParseFloat(cpu, 64) // what is no number was refused before
	return n
}

// isSold reports whether an instance can have that many processors.
func isSold(n float64) bool {
	_, whole := perProcessors[n]
	return whole || n >= leastProcessors && n < 1
}

// checkProcessors refuses combinations of processors, memory and concurrency that Google refuses.
func checkProcessors(f faas.Function, scale scaling) error {
	n := processors(scale.cpu)
	if n == 0 {
		return nil
	}
	allowed := perProcessors[n]
	if n < 1 {
		if allowed.most = 1024; n < 0.5 {
			allowed.most = 512
		}
		if scale.concurrency > 1 {
			return refuse(faas.ErrInvalidArgument, f.JobID,
				"option cpu is %s and option concurrency %d: less than 1 processor serves one invocation at a time", scale.cpu,
				scale.concurrency)
		}
	}
	switch {
	case f.MemoryMB < allowed.least:
		return refuse(faas.ErrInvalidArgument, f.JobID,
			"memory of %d MiB is too little for option cpu=%s, which needs at least %d MiB", f.MemoryMB, scale.cpu,
			allowed.least)
	case f.MemoryMB > allowed.most:
		return refuse(faas.ErrTooLarge, f.JobID,
			"memory of %d MiB is too much for option cpu=%s, which allows at most %d MiB",
			f.MemoryMB, scale.cpu, allowed.most)
	}
	return nil
}

// takes returns the rules for the functions that Google accepts.
func (e *Executor) takes() kit.FunctionRules {
	return kit.FunctionRules{
		Provider: faas.GCPFunctions, Reserved: reservedEnv, Prefixes: []string{"X_GOOGLE_"}, MaxEnvironment: maxEnvironment,
		Special: e.checkFunction,
	}
}

// checkFunction checks the rules that only Google has.
func (e *Executor) checkFunction(f faas.Function) error {
	limits, _ := faas.ProviderLimits(faas.GCPFunctions)
	sizes, _ := faas.ProviderMemorySizes(faas.GCPFunctions)
	scale := e.scale(f)
	switch {
	case f.MemoryMB > limits.MaxMemoryMB:
		return nil // which is refused as everywhere
	case !slices.Contains(sizes.Sizes, f.MemoryMB):
		return refuse(faas.ErrInvalidArgument, f.JobID,
			"memory of %d MiB is not a size that Google sells; the next one is %d MiB", f.MemoryMB, sizes.RoundUp(f.MemoryMB))
	case f.KeepWarm > 1<<31-1 || f.MaxConcurrency > 1<<31-1:
		return refuse(faas.ErrTooLarge, f.JobID, "keep_warm of %d and max_concurrency of %d: the limit of both is %d",
			f.KeepWarm, f.MaxConcurrency, 1<<31-1)
	case scale.most > 0 && f.KeepWarm > scale.most:
		return refuse(faas.ErrInvalidArgument, f.JobID,
			"keep_warm is %d, but max_concurrency and option max_instances allow at most %d",
			f.KeepWarm, scale.most)
	}
	for _, s := range e.set.secrets {
		if _, both := f.Env[s.Key]; both {
			return refuse(faas.ErrInvalidArgument, f.JobID,
				"environment variable %s is also in option secrets; set only one", s.Key)
		}
	}
	return checkProcessors(f, scale)
}

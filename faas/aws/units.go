//go:build !faas_only || faas_aws

package aws

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Limits of Lambda beyond those in faas.Limits. Source:
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const (
	minMemoryMB = 128
	maxUnpacked = 250 << 20 // of the package, layers included
	// The zip in the call itself "must be smaller than 52428800 bytes", as Lambda says.
	maxDirectUpload  = 50<<20 - 1
	maxEnvironment   = 4 << 10 // of the environment as JSON
	maxSyncPayload   = 6 << 20
	maxEventPayload  = 1 << 20
	bootstrapName    = "bootstrap" // what the runtime provided.al2023 starts
	adaptedName      = "function"  // the real binary beside an adapter
	maxReservedUnits = 1<<31 - 1
)

var envNamePattern = regexp.MustCompile(`^[a-zA-Z]([a-zA-Z0-9_])+$`)

// reservedEnv holds the environment variables that Lambda sets itself and refuses to accept.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
var reservedEnv = []string{
	"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
	"AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
	"AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
	"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY",
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT",
	"LAMBDA_RUNTIME_DIR",
	"AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN",
}

// Units makes one unit for each function. A binary that links faas/job is itself the package's
// bootstrap; one that speaks only stdin and stdout is packed with a shell script that speaks the
// Runtime API for it.
func (e *Executor) Units(bin *faas.Binary, functions []faas.Function) ([]faas.Unit, error) {
	if e.options.roleArn == "" && !e.options.createRole {
		return nil, errNoRole()
	}
	files, err := e.packageFiles(bin)
	if err != nil {
		return nil, err
	}
	if functions, err = e.functionRules().Check(functions); err != nil {
		return nil, err
	}
	units := make([]faas.Unit, 0, len(functions))
	for _, f := range functions {
		units = append(units, faas.Unit{ID: functionName(e.service, f.JobID), Functions: []faas.Function{f}, Files: files,
			Compact: bin.Compact && len(e.options.tags) < maxUserTags})
	}
	return units, nil
}

func (e *Executor) packageFiles(bin *faas.Binary) ([]faas.PackageFile, error) {
	refuse := func(code faas.Code, format string, args ...any) error {
		return faas.Errorf(code, "units", faas.AWSLambda, format, args...)
	}
	switch {
	case bin == nil:
		return nil, refuse(faas.ErrInvalidArgument, "no binary is given")
	case bin.Format == faas.FormatELF:
		if bin.OS != "" && bin.OS != "linux" {
			return nil, refuse(faas.ErrUnsupported, "binary %s is for %s; Lambda runs linux: build it with GOOS=linux",
				bin.Path, bin.OS)
		}
		if lambdaArch(bin.Arch) == "" {
			return nil, refuse(faas.ErrUnsupported, "binary %s is for %s; Lambda runs amd64 and arm64", bin.Path,
				cmp.Or(string(bin.Arch), "an unknown processor"))
		}
		if e.options.architecture != "" && e.options.architecture != bin.Arch {
			return nil, refuse(faas.ErrInvalidArgument, `binary %s is for %s, but the option "architecture" asks for %s`,
				bin.Path, bin.Arch, e.options.architecture)
		}
		if !bin.Static {
			e.logger.warn("the binary is linked to shared libraries, which have to be on Lambda's provided.al2023", "binary",
				bin.Path, "libraries", bin.Libraries)
		}
	case bin.Format == faas.FormatScript && bin.Protocols == faas.SpeaksStdio:
	default:
		return nil, refuse(faas.ErrUnsupported, "binary %s is of format %q; Lambda runs ELF executables for linux, and "+
			"scripts: build it with GOOS=linux", bin.Path, bin.Format)
	}
	if bin.Size > maxUnpacked {
		return nil, refuse(faas.ErrTooLarge, "binary %s has %d bytes; Lambda takes at most %d unpacked: strip it "+
			"(-ldflags=-s -w)", bin.Path, bin.Size, int64(maxUnpacked))
	}
	if bin.Protocols == faas.SpeaksStdio {
		return []faas.PackageFile{
			{Name: bootstrapName, Content: stdioBootstrap(), Mode: 0o755},
			{Name: adaptedName, Path: bin.Path, Mode: 0o755},
		}, nil
	}
	return []faas.PackageFile{{Name: bootstrapName, Path: bin.Path, Mode: 0o755}}, nil
}

// functionRules returns what Lambda accepts of functions.
func (e *Executor) functionRules() kit.FunctionRules {
	return kit.FunctionRules{
		Provider: faas.AWSLambda, MinMemoryMB: minMemoryMB, Reserved: reservedEnv, Name: envNamePattern,
		NameHelp: "two or more letters, digits and underscores, and begins with a letter", MaxEnvironment: maxEnvironment,
		EnvironmentSize: func(f faas.Function) int { return environmentSize(f.Env.Reveal()) },
		Special: func(f faas.Function) error {
			switch {
			case f.MaxConcurrency > maxReservedUnits || f.KeepWarm > maxReservedUnits:
				return faas.JobErrorf(faas.ErrTooLarge, "units", faas.AWSLambda, f.JobID,
					"max_concurrency is %d and keep_warm %d; the limit of both is %d", f.MaxConcurrency, f.KeepWarm, maxReservedUnits)
			case e.options.reservedConcurrency && f.MaxConcurrency > 0 && f.KeepWarm > f.MaxConcurrency:
				return faas.JobErrorf(faas.ErrInvalidArgument, "units", faas.AWSLambda, f.JobID,
					"keep_warm is %d, more than max_concurrency, which is %d", f.KeepWarm, f.MaxConcurrency)
			}
			return nil
		},
	}
}

// environmentSize returns what Lambda measures: the bytes of the environment as a JSON object.
func environmentSize(env map[string]string) int {
	if len(env) == 0 {
		return 0
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(env); err != nil {
		panic("aws: an environment does not marshal: " + err.Error()) // strings always do
	}
	return text.Len() - len("\n")
}

// lambdaArch returns Lambda's name for an architecture, or "" if Lambda has none.
func lambdaArch(arch faas.Arch) string {
	switch arch {
	case faas.AMD64:
		return "x86_64"
	case faas.ARM64:
		return "arm64"
	}
	return ""
}

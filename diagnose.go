package serverless

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

const diagnoseOp = "diagnose"

// DiagnoseSpec says what [Diagnose] looks at, beyond what is there for every service. Its zero value leaves out what it does not name.
type DiagnoseSpec struct {
	// PolicyPath is the policy file, in place of [DefaultPolicyPath]. [WithPolicy] goes before both.
	PolicyPath string
	// Service is the service that would be deployed. Some providers derive from its name what they look at, such as a role.
	Service string
	// BlueprintID is the blueprint that is to be on chain; nil: none.
	BlueprintID *uint64
	BinaryPath  string // the blueprint's executable; empty: none
	StateDir    string // the directory of the ledgers; empty: DefaultStateDir
	// Fetch are the options that metadata would be fetched with.
	Fetch []FetchOption
	// Policy is used instead of the policy file.
	Policy *Policy
	// Executor is asked instead of the policy's provider, whether serverless is on or not. It stays open.
	Executor faas.Executor
}

// Diagnose finds out what stands in the way of a deployment, and what to do about it. It changes nothing, here, at the provider or on chain. It looks, in
// this order, at
//
//   - "policy": the operator's policy can be read and is valid;
//   - "provider": the policy's provider is linked in and takes its configuration;
//   - "PROVIDER/...": what the provider itself finds ([faas.Diagnoser]), where serverless is on;
//   - "state": the directory of the ledgers can be used;
//   - "services": no operation on a service was interrupted, and no ledger is damaged;
//   - "chain", "head", "contract", "blueprint": the node answers, is up to date, and knows contract and blueprint;
//   - "binary": the executable is one that the provider can run.
//
// Of the options those count that tell a deployment where things are: [WithPolicy], [WithExecutor], which stays open and is asked whether serverless is on or not, [WithFetch], and
// [WithStateDir]. All is looked at at the same time, each check within a bounded time; ctx bounds all of it. The names
// are the same on every call, but for the provider's own where it cannot be opened. Remedies that begin with "cloud" are for the program in cli.
//
// What is found is no error. The error is an ErrTimeout where ctx ended before everything was looked at, beside the checks.
func Diagnose(ctx context.Context, spec DiagnoseSpec) ([]faas.Check, error) {
	d := &diagnosis{spec: spec, fetch: newFetchOptions(spec.Fetch)}
	local := d.local(ctx)
	if d.opened != nil {
		defer d.opened.Close() // what cannot be closed was of no use
	}
	groups := []func(context.Context) []faas.Check{d.provider, d.state, d.chain, d.binary}
	found := make([][]faas.Check, len(groups))
	var all sync.WaitGroup
	for i, look := range groups {
		all.Go(func() { found[i] = look(ctx) })
	}
	all.Wait()
	checks := local
	for _, group := range found {
		checks = append(checks, group...)
	}
	if err := ctx.Err(); err != nil {
		return checks, faas.Errorf(faas.ErrTimeout, diagnoseOp, "", "not everything could be looked at: %w", err)
	}
	return checks, nil
}

// diagnosis is one Diagnose.
type diagnosis struct {
	spec  DiagnoseSpec
	fetch *fetchOptions

	policy *Policy       // nil where it cannot be used
	exec   faas.Executor // nil where there is none
	opened faas.Executor // exec, where it is to be closed
	why    string        // why there is no executor
}

// local looks at policy and provider, which the others depend on. Nobody is called.
func (d *diagnosis) local(ctx context.Context) []faas.Check {
	probes := []check.Check{{Name: "policy", Run: d.checkPolicy}, {Name: "provider", Run: d.openProvider}}
	var checks []faas.Check
	for _, p := range probes { // in this order
		checks = append(checks, check.Run(ctx, check.Time, p)...)
	}
	return checks
}

func (d *diagnosis) checkPolicy(context.Context) faas.Check {
	policy, path := d.spec.Policy, ""
	if policy == nil {
		var err error
		path = d.spec.PolicyPath
		if path == "" {
			if path, err = DefaultPolicyPath(); err != nil {
				return check.FailBy(err, "name the policy file: cloud --policy FILE")
			}
		}
		if policy, err = LoadPolicy(WithPolicyPath(path)); err != nil {
			return check.FailBy(err, policyRemedy(path, err))
		}
	}
	if err := policy.Validate(); err != nil {
		return check.FailBy(err, policyRemedy(path, err))
	}
	d.policy = policy
	switch s := policy.Serverless; {
	case path != "" && policy.source.doc == nil:
		return check.Warn(nil, "tangle-cloud policy --serverless true --faas-provider PROVIDER",
			"there is no %s: the defaults count, and serverless is off", path)
	case !s.Enable:
		return check.Warn(nil, "tangle-cloud policy --serverless true",
			"%s: serverless is off, and every job is run traditionally", cmp.Or(path, "the given policy"))
	default:
		return check.OK("%s: %s, %d MB, %d s", cmp.Or(path, "the given policy"), s.Provider.Type, s.DefaultMemoryMB,
			s.DefaultTimeoutSecs)
	}
}

// policyRemedy says how to put a policy right.
func policyRemedy(path string, err error) string {
	var cause *PolicyError
	if !errors.As(err, &cause) {
		return "correct the policy"
	}
	flags := map[string]string{
		"serverless.default_memory_mb": "--faas-memory MB", "serverless.default_timeout_secs": "--faas-timeout SECONDS",
		"serverless.provider.type":            "--faas-provider PROVIDER",
		"serverless.provider.region":          "--faas-aws-region REGION",
		"serverless.provider.project_id":      "--faas-gcp-project PROJECT",
		"serverless.provider.subscription_id": "--faas-azure-subscription SUBSCRIPTION",
		"serverless.provider.endpoint":        "--faas-custom-endpoint URL",
	}
	switch {
	case faas.CodeOf(err) == faas.ErrPermissionDenied:
		return "sudo chown \"$USER\" " + quoted(path)
	case cause.Line > 0 && cause.Field != "":
		return fmt.Sprintf("correct %s in line %d of %s", cause.Field, cause.Line, path)
	case cause.Line > 0:
		return fmt.Sprintf("correct line %d of %s", cause.Line, path)
	case flags[cause.Field] != "":
		return "tangle-cloud policy " + flags[cause.Field]
	case path == "":
		return "correct the policy"
	}
	return "correct " + path
}

// quoted is a path as a shell takes it.
func quoted(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("/._-+:@%=,", r))
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// openProvider opens the provider as a deployment does.
func (d *diagnosis) openProvider(ctx context.Context) faas.Check {
	switch {
	case d.spec.Executor != nil:
		d.exec = d.spec.Executor
		return check.OK("an executor is given")
	case d.policy == nil:
		d.why = "the policy cannot be used"
		return check.Skip("%s", d.why)
	}
	cfg := d.policy.Serverless.Config().Provider
	if err := faas.CheckLinked(cfg.Provider); err != nil {
		d.why = "the provider is not linked in"
		return check.FailBy(err, "link the provider into this program and build it again, as the message says")
	}
	if !d.policy.Serverless.Enable {
		d.why = "serverless is off"
		return check.Skip("serverless is off, so that %s is not asked", cfg.Provider)
	}
	at := &place{service: cmp.Or(d.spec.Service, "diagnose"), config: cfg}
	at.opts.resolve()
	if err := at.open(ctx); err != nil {
		d.why = "the provider cannot be opened"
		return check.FailBy(err, "tangle-cloud policy --faas-option NAME=VALUE (NAME= removes an option)")
	}
	d.exec, d.opened = at.exec, at.exec
	return check.OK("%s", strings.Trim(fmt.Sprint(public(cfg)), "{}"))
}

// provider has the provider diagnose itself.
func (d *diagnosis) provider(ctx context.Context) []faas.Check {
	if d.exec == nil {
		return nil
	}
	prefix := ""
	if d.policy != nil {
		prefix = d.policy.Serverless.Provider.Type + "/"
	}
	checks := d.exec.Diagnose(ctx)
	for i := range checks {
		checks[i].Name = prefix + checks[i].Name
	}
	return checks
}

// binary looks at the executable. Units asks the provider whether it would take it, which calls nobody.
func (d *diagnosis) binary(ctx context.Context) []faas.Check {
	return check.Run(ctx, check.Time, check.Check{Name: "binary", Run: func(context.Context) faas.Check {
		path := d.spec.BinaryPath
		if path == "" {
			return check.Skip("none is named (--binary FILE)")
		}
		bin, err := faas.InspectBinary(path)
		if err != nil {
			remedy := "build it, or name another one"
			if errors.Is(err, os.ErrPermission) {
				remedy = "chmod u+rx " + quoted(path)
			}
			return check.FailBy(err, remedy)
		}
		if err := bin.CheckLinux(); err != nil {
			remedy := "build it for Linux: CGO_ENABLED=0 GOOS=linux go build"
			if !bin.Executable && bin.Format != faas.FormatUnknown {
				remedy = "chmod +x " + quoted(path)
			}
			return check.FailBy(err, remedy)
		}
		if d.exec != nil {
			if err := d.fits(bin); err != nil {
				return check.FailBy(err, "build it or configure the provider as the message says")
			}
		}
		speaks := "it links faas/job and runs on every provider"
		if bin.Protocols == faas.SpeaksStdio {
			speaks = "it speaks only standard input and output: it is started once for every call, through an adapter where " +
				"the provider needs one"
		}
		what := fmt.Sprintf("%s %s, %d KiB", bin.OS, bin.Arch, (bin.Size+1023)>>10)
		if bin.Format == faas.FormatScript {
			what = "a script for " + bin.Interpreter
		}
		if err := bin.CheckStatic(); err != nil && bin.Format == faas.FormatELF {
			return check.Warn(err, "build it static: CGO_ENABLED=0, or in Rust --target x86_64-unknown-linux-musl",
				"%s, linked dynamically, which works where the functions' system has all that it needs; %s", what, speaks)
		}
		return check.OK("%s; %s", what, speaks)
	}})
}

// fits asks the provider whether it takes the binary, with a function as the policy has it.
func (d *diagnosis) fits(bin *faas.Binary) error {
	f := faas.Function{MemoryMB: 512, TimeoutSecs: 60}
	if d.policy != nil {
		s := d.policy.Serverless
		f.MemoryMB, f.TimeoutSecs = s.DefaultMemoryMB, s.DefaultTimeoutSecs
		if sizes, ok := faas.ProviderMemorySizes(s.Provider.Type); ok {
			f.MemoryMB = cmp.Or(sizes.RoundUp(f.MemoryMB), f.MemoryMB)
		}
	}
	_, err := d.exec.Units(bin, []faas.Function{f})
	return err
}

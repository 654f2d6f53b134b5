package serverless

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

const diagnoseOp = "diagnose"

// DiagnoseSpec says what [Diagnose] checks. The zero value is enough to check what every service
// needs.
type DiagnoseSpec struct {
	// Policy is used instead of the file at PolicyPath, which by default is DefaultPolicyPath.
	Policy     *Policy
	PolicyPath string
	// Service is the service to be deployed. Some providers derive from its name what they check, such
	// as the name of a role.
	Service     string
	BlueprintID *uint64 // must be on chain; nil: none
	BinaryPath  string  // the blueprint's executable; empty: none
	StateDir    string  // the directory of the ledgers; empty: DefaultStateDir
	// Fetch are the options that a deployment would fetch metadata with.
	Fetch []FetchOption
	// Executor is asked instead of the policy's provider, whether serverless is on or not. It stays
	// open.
	Executor faas.Executor
}

// Diagnose finds out what stands in the way of a deployment, and what to do about it. It changes
// nothing on this machine, at the provider or on chain. It makes these checks, in this order:
//
//   - "policy": the operator's policy can be read and is valid;
//   - "provider": the policy's provider is linked in and accepts its configuration;
//   - "PROVIDER/...": what the provider's own Diagnose finds, if serverless is on;
//   - "state": the directory of the ledgers can be used;
//   - "services": no operation on a service was interrupted, and no ledger is damaged;
//   - "chain", "head", "contract", "blueprint": the node answers, is up to date, and knows the
//     contract and the blueprint;
//   - "binary": the provider can run the executable.
//
// The checks run at the same time, each within a bounded time; ctx bounds all of them. Their names
// are the same on every call, except that a provider that cannot be opened has no checks of its
// own.
//
// Findings are not errors. If ctx ends before every check was made, Diagnose returns the checks and
// an ErrTimeout.
func Diagnose(ctx context.Context, spec DiagnoseSpec) ([]faas.Check, error) {
	d := &diagnosis{spec: spec, fetch: newFetchOptions(spec.Fetch)}
	local := d.local(ctx)
	if d.opened != nil {
		defer d.opened.Close() // nothing depends on it any more
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
		return checks, faas.Errorf(faas.ErrTimeout, diagnoseOp, "", "not every check could be made: %w", err)
	}
	return checks, nil
}

// diagnosis is one Diagnose.
type diagnosis struct {
	spec  DiagnoseSpec
	fetch *fetchOptions

	policy *Policy       // nil if it cannot be used
	exec   faas.Executor // nil if there is none
	opened faas.Executor // exec if Diagnose must close it
}

// local checks policy and provider, which the other checks depend on. It calls nobody.
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
				return check.FailBy(err, "name the policy file")
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
		return check.Warn(nil, "write a policy with serverless.enable and serverless.provider",
			"%s does not exist: the defaults apply, and serverless is off", path)
	case !s.Enable:
		return check.Warn(nil, "set serverless.enable to true", "%s: serverless is off, and every job runs traditionally",
			cmp.Or(path, "the given policy"))
	default:
		return check.OK("%s: %s, %d MB, %d s", cmp.Or(path, "the given policy"), s.Provider.Type, s.DefaultMemoryMB,
			s.DefaultTimeoutSecs)
	}
}

// policyRemedy says how to correct a policy.
func policyRemedy(path string, err error) string {
	var cause *PolicyError
	if !errors.As(err, &cause) {
		return "correct the policy"
	}
	switch {
	case faas.CodeOf(err) == faas.ErrPermissionDenied:
		return "sudo chown \"$USER\" " + quoted(path)
	case cause.Line > 0 && cause.Field != "":
		return fmt.Sprintf("correct %s in line %d of %s", cause.Field, cause.Line, path)
	case cause.Line > 0:
		return fmt.Sprintf("correct line %d of %s", cause.Line, path)
	case cause.Field != "":
		return "correct " + cause.Field + " in " + cmp.Or(path, "the policy")
	}
	return "correct " + cmp.Or(path, "the policy")
}

// quoted is a path as a shell reads it.
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
		return check.Skip("the policy cannot be used")
	}
	cfg := d.policy.Serverless.Config().Provider
	if err := faas.CheckLinked(cfg.Provider); err != nil {
		return check.FailBy(err, "link the provider into this program, as the message says, and build it again")
	}
	if !d.policy.Serverless.Enable {
		return check.Skip("serverless is off, so %s is not asked", cfg.Provider)
	}
	at := &place{service: cmp.Or(d.spec.Service, "diagnose"), config: cfg}
	at.opts.resolve()
	if err := at.open(ctx); err != nil {
		return check.FailBy(err, "correct the provider's options in serverless.provider_config")
	}
	d.exec, d.opened = at.exec, at.exec
	return check.OK("%s", strings.Trim(fmt.Sprint(public(cfg)), "{}"))
}

// provider lets the provider diagnose itself.
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

// binary checks the executable. It asks the provider only for Units, which calls nobody.
func (d *diagnosis) binary(ctx context.Context) []faas.Check {
	return check.Run(ctx, check.Time, check.Check{Name: "binary", Run: func(context.Context) faas.Check {
		path := d.spec.BinaryPath
		if path == "" {
			return check.Skip("no binary is named")
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
			speaks = "it uses only standard input and output, so it is started once for every call"
		}
		what := fmt.Sprintf("%s %s, %d KiB", bin.OS, bin.Arch, (bin.Size+1023)>>10)
		if bin.Format == faas.FormatScript {
			what = "a script for " + bin.Interpreter
		}
		if err := bin.CheckStatic(); err != nil && bin.Format == faas.FormatELF {
			return check.Warn(err, "build it static: CGO_ENABLED=0, or in Rust --target x86_64-unknown-linux-musl",
				"%s, linked dynamically, which works if the functions' system has all its libraries; %s", what, speaks)
		}
		return check.OK("%s; %s", what, speaks)
	}})
}

// fits asks the provider whether it accepts the binary, for a function as the policy describes it.
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

// state checks what this machine keeps of services.
func (d *diagnosis) state(ctx context.Context) []faas.Check {
	return check.Run(ctx, check.Time, check.Check{Name: "state", Run: d.checkStateDir},
		check.Check{Name: "services", Run: d.checkServices})
}

// checkStateDir finds out whether ledgers can be written, without writing one. If the default
// directory cannot be used, that is a warning, because deployments continue without ledgers then.
func (d *diagnosis) checkStateDir(context.Context) faas.Check {
	store, err := ledgers{dir: d.spec.StateDir}.store()
	if err != nil {
		return d.noLedgers(err, "name a state directory")
	}
	dir, exists := store.Dir(), true
	at := dir
	info, err := os.Stat(at)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(at) != at { // the closest parent that exists
		at, exists = filepath.Dir(at), false
		info, err = os.Stat(at)
	}
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "use", Path: at, Err: errors.New("not a directory")}
	}
	if err == nil {
		if err = check.MayWriteIn(at); err != nil {
			err = &fs.PathError{Op: "write in", Path: at, Err: err}
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return d.noLedgers(faas.Errorf(faas.ErrPermissionDenied, diagnoseOp, "", "%w", err),
			"sudo chown -R \"$USER\" "+quoted(at)+"\nchmod u+rwx "+quoted(at))
	case err != nil:
		return d.noLedgers(faas.Errorf(faas.ErrInvalidArgument, diagnoseOp, "", "%w", err),
			"name a state directory that can be written to")
	case !exists:
		return check.OK("the first deployment creates %s", dir)
	}
	return check.OK("%s can be written to", dir)
}

func (d *diagnosis) noLedgers(err error, remedy string) faas.Check {
	if d.spec.StateDir == "" {
		return check.Warn(err, remedy, "no ledger can be kept, so a crash may leave functions behind: %s",
			check.Words(err))
	}
	return check.FailBy(err, remedy)
}

// checkServices looks for operations that did not end, and for ledgers that cannot be read.
func (d *diagnosis) checkServices(context.Context) faas.Check {
	store, err := ledgers{dir: d.spec.StateDir}.store()
	if err != nil {
		return check.Skip("no state directory is known")
	}
	records, err := store.Records()
	if err != nil {
		return check.FailBy(err, "restore the file from a backup, or move it away and remove the service's functions "+
			"by hand")
	}
	var running, broken, names []string
	for _, r := range records {
		busy, err := store.Busy(r.Service, r.Provider)
		if err != nil {
			return check.FailBy(err, "make the state directory readable: chmod -R u+rwX "+quoted(store.Dir()))
		}
		if busy {
			running = append(running, r.Service)
			continue // its pending units are no trouble
		}
		var units []string
		for _, u := range r.Sorted() {
			if u.Pending != "" {
				units = append(units, u.Pending+" of "+u.ID)
			}
		}
		if len(units) > 0 {
			broken = append(broken, fmt.Sprintf("%s: %s", r.Service, strings.Join(units, ", ")))
			names = append(names, quoted(r.Service))
		}
	}
	text := fmt.Sprintf("%d known in %s", len(records), store.Dir())
	if len(running) > 0 {
		text += "; being changed now: " + strings.Join(running, ", ")
	}
	if len(broken) > 0 {
		return check.Warn(nil, "recover, deploy again or undeploy: "+strings.Join(names, ", "),
			"%s; interrupted: %s", text, strings.Join(broken, "; "))
	}
	return check.OK("%s", text)
}

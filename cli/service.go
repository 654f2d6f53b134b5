package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// serviceFlags name a service.
type serviceFlags struct {
	id    uint64
	name  string
	flags *pflag.FlagSet
}

func bindService(flags *pflag.FlagSet) *serviceFlags {
	s := &serviceFlags{flags: flags}
	flags.Uint64Var(&s.id, "service-id", 0, "`number` of the service; its name here is service-NUMBER")
	flags.StringVar(&s.name, "name", "", "`name` of the service, in place of a number")
	return s
}

func (s *serviceFlags) service() (string, error) {
	switch numbered := s.flags.Changed("service-id"); {
	case numbered && s.name != "":
		return "", usagef("--service-id and --name both name the service: give one")
	case numbered:
		return fmt.Sprintf("service-%d", s.id), nil
	case s.name == "":
		return "", usagef("which service? --service-id 123, or --name my-service")
	}
	return s.name, nil
}

// deployFlags say what to deploy.
type deployFlags struct {
	*serviceFlags
	*chainFlags
	blueprint     uint64
	binary        string
	args, env     []string
	keystore      string
	dataDir       string
	runnerEnv     []string
	verify        bool
	keepSucceeded bool
	noWait        bool
	move          bool
	drop          []string
}

func bindDeploy(cmd *cobra.Command) *deployFlags {
	flags := cmd.Flags()
	d := &deployFlags{serviceFlags: bindService(flags), chainFlags: bindChain(flags)}
	flags.Uint64Var(&d.blueprint, "blueprint-id", 0,
		"`number` of the blueprint on chain (default: that of the last deployment, or 0)")
	flags.StringVar(&d.binary, "binary", "", "the blueprint's `executable` (default: that of the last deployment)")
	flags.StringArrayVar(&d.args, "arg", nil, "`argument` of the runner; may be repeated")
	flags.StringArrayVar(&d.env, "env", nil, "`NAME=VALUE` in the functions' environment; NAME alone takes it from "+
		"this one; may be repeated")
	flags.StringVar(&d.keystore, "keystore", "", "`directory` or file with the operator's key: the runner takes the "+
		"jobs of --service-id from the chain")
	flags.StringVar(&d.dataDir, "data-dir", "", "`directory` of that runner's journal (default: that of the last "+
		"deployment, or one below the state directory)")
	flags.StringArrayVar(&d.runnerEnv, "runner-env", nil, "`NAME=VALUE` in the runner's environment alone, such as "+
		"KEYSTORE_PASSWORD; NAME alone takes it from this one; may be repeated")
	flags.BoolVar(&d.verify, "verify", false, "refuse a binary that is not the one published on chain")
	flags.BoolVar(&d.move, "move", false, "remove what the service has in other places, once the functions here answer")
	flags.StringArrayVar(&d.drop, "drop", nil, "go without `WHAT` the last deployment was given: env.NAME, "+
		"runner.NAME, option.NAME, chain.rpc, chain.contract, chain.service or chain.keystore; may be repeated")
	flags.BoolVar(&d.noWait, "no-wait", false, "fail at once if something else is changing the service")
	return d
}

// spec completes the flags by what the service's ledger remembers.
func (a *app) spec(d *deployFlags) (serverless.ServiceSpec, error) {
	name, err := d.service()
	if err != nil {
		return serverless.ServiceSpec{}, err
	}
	spec := serverless.ServiceSpec{Name: name, BlueprintID: d.blueprint, BinaryPath: d.binary, Args: d.args,
		Keystore: d.keystore, DataDir: d.dataDir}
	if d.keystore != "" {
		if !d.flags.Changed("service-id") {
			return spec, usagef("--keystore is for the jobs of a service on chain: name the service by --service-id")
		}
		spec.ServiceID = &d.serviceFlags.id
	}
	for _, info := range a.known(name) {
		spec.BinaryPath = cmp.Or(spec.BinaryPath, info.BinaryPath)
		if !d.flags.Changed("blueprint-id") {
			spec.BlueprintID = info.BlueprintID
		}
		if spec.ServiceID == nil && !slices.Contains(d.drop, "chain.service") {
			spec.ServiceID = info.ServiceID
		}
	}
	if spec.ServiceID == nil && d.dataDir != "" {
		return spec, usagef("--data-dir is for the runner of a service on chain: give --keystore too")
	}
	if spec.BinaryPath == "" {
		return spec, usagef("service " + name + " was not deployed before: --binary names its executable")
	}
	if _, err := os.Stat(spec.BinaryPath); errors.Is(err, fs.ErrNotExist) {
		return spec, faas.Errorf(faas.ErrNotFound, "deploy", "", "the binary of %s: %w", name, err)
	}
	if spec.Env, err = variables("--env", d.env); err == nil {
		spec.RunnerEnv, err = variables("--runner-env", d.runnerEnv)
	}
	return spec, err
}

// variables reads the values of a flag for variables of an environment.
func variables(flag string, texts []string) (map[string]string, error) {
	env := map[string]string{}
	for _, text := range texts {
		name, value, given := strings.Cut(text, "=")
		if !given {
			var set bool
			if value, set = os.LookupEnv(name); !set {
				return nil, usagef(flag + " " + name + ": the environment does not have this variable")
			}
		}
		env[name] = value
	}
	return env, nil
}

// known returns what the ledgers know of a service, for each of its places.
func (a *app) known(name string) []serverless.ServiceInfo {
	services, err := serverless.ListServices(a.stateDir)
	if err != nil {
		a.warn(err.Error())
	}
	return slices.DeleteFunc(services, func(info serverless.ServiceInfo) bool { return info.Name != name })
}

// options returns the options of plan and deploy.
func (a *app) options(d *deployFlags, policy *serverless.Policy) []serverless.DeployOption {
	opts := []serverless.DeployOption{serverless.WithStateDir(a.stateDir), serverless.WithPolicy(policy),
		serverless.WithFetch(d.chainFlags.options()...)}
	if d.verify {
		opts = append(opts, serverless.WithVerifiedBinary())
	}
	if d.move {
		opts = append(opts, serverless.WithMove())
	}
	opts = append(opts, serverless.WithDropped(d.drop...))
	if d.noWait {
		opts = append(opts, serverless.WithoutWaiting())
	}
	if d.keepSucceeded {
		opts = append(opts, serverless.WithKeepSucceeded())
	}
	return opts
}

package serverless

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// ServiceSpec says what to deploy.
type ServiceSpec struct {
	// Name identifies the service: at most 128 bytes of printable text. It qualifies every resource,
	// so that two services never share one.
	Name        string
	BlueprintID uint64
	// BinaryPath is the blueprint's executable, which the job functions run and which runs as the
	// service's runner.
	BinaryPath string
	// ServiceID is the service on chain whose jobs the runner takes. Nil means none, because service 0
	// exists. The runner gets what Deploy knows of the chain in the environment that the ecosystem's
	// manager gives: SERVICE_ID, BLUEPRINT_ID, PROTOCOL, CHAIN, HTTP_RPC_URL (the nodes of [WithRPC]),
	// TANGLE_CONTRACT, KEYSTORE_URI, DATA_DIR and, where they are published, STAKING_CONTRACT and
	// STATUS_REGISTRY_CONTRACT; and BLUEPRINT_CHAIN_ID, so that it refuses nodes of another chain.
	// What Env and RunnerEnv set wins. No function gets any of it.
	ServiceID *uint64
	// Keystore is where the runner finds its key: KEYSTORE_URI. Empty leaves that to the runner's
	// environment. It needs ServiceID.
	Keystore string
	// DataDir is where the runner keeps its journal. Empty means a directory below the state
	// directory on this machine, or what the orchestrator of another machine chooses. Nothing removes
	// it, not even Undeploy: the journal keeps an answered job from being run and paid for again. It
	// needs ServiceID.
	DataDir string
	// Args are the runner's arguments; functions get none. Nil means "run" if ServiceID is set, as the
	// ecosystem's manager starts a blueprint. A binary that uses only stdin and stdout is kept running
	// as a runner only if it has arguments. Without any it would wait for one request, and is started
	// for each call instead.
	Args []string
	// Env is the environment of the functions and, in addition to this process's own, of the runner.
	// Its values are never logged.
	Env map[string]string
	// RunnerEnv is the environment of the runner alone, such as KEYSTORE_PASSWORD. It wins over Env,
	// and its values are never logged.
	RunnerEnv map[string]string
}

// Format prints the spec with the names of its environment, and never the values, whatever the
// verb.
func (s ServiceSpec) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{name:%s blueprint:%d binary:%s args:%d env:%v", s.Name, s.BlueprintID, s.BinaryPath, len(s.Args),
		slices.Sorted(maps.Keys(s.Env)))
	if s.ServiceID != nil {
		fmt.Fprintf(f, " service:%d", *s.ServiceID)
	}
	if len(s.RunnerEnv) > 0 {
		fmt.Fprintf(f, " runner env:%v", slices.Sorted(maps.Keys(s.RunnerEnv)))
	}
	fmt.Fprint(f, "}")
}

// LogValue logs what Format prints.
func (s ServiceSpec) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// MarshalJSON hides the values of the environment, the arguments and the key store, which may be
// credentials.
func (s ServiceSpec) MarshalJSON() ([]byte, error) {
	shown := struct {
		Name        string
		BlueprintID uint64
		BinaryPath  string
		ServiceID   *uint64      `json:",omitempty"`
		Keystore    *faas.Secret `json:",omitempty"`
		DataDir     string       `json:",omitempty"`
		Args        []faas.Secret
		Env         faas.Env
		RunnerEnv   faas.Env `json:",omitempty"`
	}{Name: s.Name, BlueprintID: s.BlueprintID, BinaryPath: s.BinaryPath, ServiceID: s.ServiceID, DataDir: s.DataDir,
		Env: faas.NewEnv(s.Env), RunnerEnv: faas.NewEnv(s.RunnerEnv)}
	if s.Keystore != "" {
		shown.Keystore = new(faas.NewSecret(s.Keystore))
	}
	for _, arg := range s.Args {
		shown.Args = append(shown.Args, faas.NewSecret(arg))
	}
	return json.Marshal(shown)
}

// GobEncode returns what MarshalJSON returns.
func (s ServiceSpec) GobEncode() ([]byte, error) { return s.MarshalJSON() }

func (s ServiceSpec) validate() error {
	invalid := func(format string, args ...any) error {
		return faas.Errorf(faas.ErrInvalidArgument, "deploy", "", format, args...)
	}
	switch {
	case s.Name == "":
		return invalid("ServiceSpec.Name is empty: it qualifies the names of the service's functions")
	case len(s.Name) > 128:
		return invalid("ServiceSpec.Name has %d bytes, the limit is 128", len(s.Name))
	case strings.ContainsFunc(s.Name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '�' }):
		return invalid("ServiceSpec.Name %q has a control character or is not UTF-8", s.Name)
	case s.BinaryPath == "":
		return invalid("ServiceSpec.BinaryPath is empty: it names the blueprint's executable")
	case s.ServiceID == nil && s.Keystore != "":
		return invalid("ServiceSpec.Keystore is for a service on chain, and ServiceID is nil: set both or none")
	case s.ServiceID == nil && s.DataDir != "":
		return invalid("ServiceSpec.DataDir is for a service on chain, and ServiceID is nil: set both or none")
	case strings.ContainsRune(s.Keystore, 0):
		return invalid("ServiceSpec.Keystore has a NUL byte")
	case strings.ContainsRune(s.DataDir, 0):
		return invalid("ServiceSpec.DataDir has a NUL byte")
	}
	for field, env := range map[string]map[string]string{"Env": s.Env, "RunnerEnv": s.RunnerEnv} {
		for name, value := range env {
			if name == "" || strings.ContainsAny(name, "=\x00") {
				return invalid("ServiceSpec.%s has a variable named %q: a name is not empty and has neither = nor NUL", field, name)
			}
			if strings.ContainsRune(value, 0) {
				return invalid("ServiceSpec.%s: the value of %s has a NUL byte", field, name)
			}
		}
	}
	return nil
}

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
	// Args are the runner's arguments; functions get none. A binary that uses only stdin and stdout is
	// kept running as a runner only if it has arguments. Without any it would wait for one request,
	// and is started for each call instead.
	Args []string
	// Env is the environment of the functions and, in addition to this process's own, of the runner.
	// Its values are never logged.
	Env map[string]string
}

// Format prints the spec with the names of its environment, and never the values, whatever the
// verb.
func (s ServiceSpec) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{name:%s blueprint:%d binary:%s args:%d env:%v}", s.Name, s.BlueprintID, s.BinaryPath, len(s.Args),
		slices.Sorted(maps.Keys(s.Env)))
}

// LogValue logs what Format prints.
func (s ServiceSpec) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// MarshalJSON hides the values of the environment and the arguments, which may be credentials.
func (s ServiceSpec) MarshalJSON() ([]byte, error) {
	shown := struct {
		Name        string
		BlueprintID uint64
		BinaryPath  string
		Args        []faas.Secret
		Env         faas.Env
	}{Name: s.Name, BlueprintID: s.BlueprintID, BinaryPath: s.BinaryPath, Env: faas.NewEnv(s.Env)}
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
	}
	for name, value := range s.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return invalid("ServiceSpec.Env has a variable named %q: a name is not empty and has neither = nor NUL", name)
		}
		if strings.ContainsRune(value, 0) {
			return invalid("ServiceSpec.Env: the value of %s has a NUL byte", name)
		}
	}
	return nil
}

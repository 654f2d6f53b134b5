package moduletest

import (
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// The packages that a program gets with an import of the root or of faas, besides the standard
// library and this module. Each is weight that every user carries: add one only for something that
// cannot be done well without it.
var (
	allowedInFaas = []string{
		"github.com/klauspost/compress", // packages are built in less than half the time
	}
	allowedInRoot = append([]string{
		"github.com/go-json-experiment/json", // answers of nodes are validated: they are not trusted
		"github.com/gofrs/flock",             // policy files and ledgers are locked
		"github.com/pelletier/go-toml/v2",    // policies may be TOML
		"golang.org/x/crypto/sha3",           // the contract's function selectors are Keccak hashes
		"golang.org/x/sync",                  // functions are deployed in parallel
		"golang.org/x/sys",                   // flock and sha3 ask it for the processor and the system
	}, allowedInFaas...)
	allowedInRunner = []string{
		"github.com/aws/aws-lambda-go",           // the same binary is the job's function
		"github.com/decred/dcrd/dcrec/secp256k1", // transactions are signed
		"github.com/go-json-experiment/json",     // answers of nodes are validated: they are not trusted
		"github.com/gofrs/flock",                 // the journal is locked
		"github.com/klauspost/compress",          // comes with faas
		"golang.org/x/crypto",                    // Keccak hashes, and key files that a password opens
		"golang.org/x/sys",                       // the files of the journal are locked, and standard input is taken over
	}
)

// clouds are the providers with an SDK: the package, the tag that keeps it, and the prefixes of its
// SDK's packages.
var clouds = []struct {
	pkg, tag string
	sdk      []string
}{
	{"faas/aws", "faas_aws", []string{"github.com/aws/aws-sdk-go-v2/", "github.com/aws/smithy-go"}},
	{"faas/gcp", "faas_gcp", []string{"cloud.google.com/", "google.golang.org/", "github.com/googleapis/",
		"go.opentelemetry.io/contrib/"}},
	{"faas/azure", "faas_azure", []string{"github.com/Azure/", "github.com/AzureAD/"}},
}

// deps returns the packages that packages of this module link beyond the standard library,
// including themselves.
func deps(t *testing.T, goos, tags string, pkgs ...string) []string {
	t.Helper()
	all := golist(t, goos, append(
		[]string{"-deps", "-tags", tags, "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}, pkgs...)...)
	if len(all) == 0 {
		t.Fatalf("go list finds nothing for %v", pkgs)
	}
	return all
}

// within reports whether a package is root or below it.
func within(pkg, root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") }

func TestTheLibraryLinksOnlyWhatIsAllowed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pkg     string
		allowed []string // beyond the standard library, faas, and what is internal
	}{
		{".", append([]string{module + "/orchestrator"}, allowedInRoot...)},
		{"./orchestrator", allowedInRoot},
		{"./faas", allowedInFaas},
		{"./runner", append([]string{module + "/faas/job", module + "/faas/internal", module + "/runner"},
			allowedInRunner...)},
	} {
		for _, goos := range []string{"linux", "darwin", "windows"} {
			for _, dep := range deps(t, goos, "", tt.pkg) {
				if dep == module || dep == module+"/faas" || within(dep, module+"/internal") ||
					within(dep, module+"/orchestrator/internal") {
					continue
				}
				allowed := slices.ContainsFunc(tt.allowed, func(root string) bool { return within(dep, root) })
				if within(dep, module) && !allowed && dep != strings.Replace(tt.pkg, ".", module, 1) {
					t.Errorf("%s on %s links %s: only programs may", tt.pkg, goos, dep)
					continue
				}
				if !allowed && !within(dep, module) {
					t.Errorf("%s on %s links %s, which is not on the list of what it may", tt.pkg, goos, dep)
				}
			}
		}
	}
}

// A program that deploys does not link what measures and estimates, and a program that estimates
// does not link what reads price lists.
func TestEachLeafIsLinkedByWhoeverUsesItAlone(t *testing.T) {
	t.Parallel()
	for pkg, not := range map[string][]string{
		".":         {"cost", "profile", "cli"},
		"./cost":    {"cost/refresh", "profile"},
		"./profile": {"cost"},
		// The main package chooses the providers.
		"./cli": {"faas/all", "faas/aws", "faas/azure", "faas/custom", "faas/gcp", "orchestrator/ec2"},
	} {
		for _, dep := range deps(t, "", "", pkg) {
			if dep = strings.TrimPrefix(dep, module+"/"); slices.Contains(not, dep) {
				t.Errorf("%s links %s", pkg, dep)
			}
		}
	}
}

// Only who imports runner/bls links the curve, and of its library only what the curve needs.
func TestOnlyAggregatedResultsLinkTheCurve(t *testing.T) {
	t.Parallel()
	const library = "github.com/consensys/gnark-crypto"
	for _, dep := range deps(t, "", "", "./runner", "./runner/codec", "./orchestrator", "./cli") {
		if within(dep, library) {
			t.Errorf("%s is linked without runner/bls", dep)
		}
	}
	linked := false
	for _, dep := range deps(t, "", "", "./runner/bls") {
		linked = linked || dep == library+"/ecc/bn254"
		for _, other := range []string{"bls12-381", "bls12-377", "bw6-761", "secp256k1", "kzg", "plonk"} {
			if within(dep, library) && strings.Contains(dep, other) {
				t.Errorf("runner/bls links %s", dep)
			}
		}
	}
	if !linked {
		t.Error("runner/bls does not link the curve")
	}
}

// A program chooses its own SDK for telemetry. The library uses only the API.
func TestTelemetryLinksNoSDK(t *testing.T) {
	t.Parallel()
	for _, pkg := range []string{"./otelfaas", "./runner/otelrunner"} {
		for _, dep := range deps(t, "", "", pkg) {
			if within(dep, "go.opentelemetry.io/otel/sdk") || strings.Contains(dep, "/exporters/") {
				t.Errorf("%s links %s", pkg, dep)
			}
		}
	}
}

// Imports point one way: cmd -> cli -> root -> faas <- providers. Tests may import anything.
func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	programs := func(pkg string) bool { return within(pkg, "examples") || within(pkg, "cmd") }
	provider := func(pkg string) bool {
		return slices.Contains([]string{"faas/aws", "faas/gcp", "faas/azure", "faas/custom"}, pkg)
	}
	for _, line := range golist(t, "", "-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}", "./...") {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(strings.TrimPrefix(words[0], module), "/")
		for _, imported := range words[1:] {
			if !within(imported, module) {
				continue
			}
			imported = strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
			switch {
			case programs(imported) && !programs(pkg):
				t.Errorf("%s imports %s: only programs may", words[0], imported)
			case imported == "faas/all" && !programs(pkg):
				t.Errorf("%s imports faas/all: the choice of providers is the program's", words[0])
			case imported == "internal/lambdatest":
				t.Errorf("%s imports lambdatest: only tests may", words[0])
			case imported == "" && within(pkg, "faas"):
				t.Errorf("%s imports the root package: arrows point from the root to faas", words[0])
			case provider(imported) && pkg != "faas/all" && !programs(pkg) && path.Dir(pkg) != imported:
				t.Errorf("%s imports the provider %s: only programs and faas/all may", words[0], imported)
			}
		}
	}
}

func TestTagsLeaveOnlyTheChosenCloudsLinked(t *testing.T) {
	t.Parallel()
	var tags []string
	for _, c := range clouds {
		tags = append(tags, c.tag)
	}
	choices := [][]string{{}, tags}
	for i := range tags {
		choices = append(choices, tags[i:i+1])
	}
	for _, chosen := range choices {
		all := strings.Join(append([]string{"faas_only"}, chosen...), ",")
		linked := deps(t, "", all, "./faas/all")
		for _, c := range clouds {
			if !slices.Contains(linked, module+"/"+c.pkg) {
				t.Errorf("faas/all does not import %s", c.pkg)
				continue
			}
			files := strings.Fields(golist(t, "", "-tags", all, "-f", "{{range .GoFiles}}{{.}} {{end}}", "./"+c.pkg)[0])
			excluded := slices.Contains(files, "excluded.go")
			if want := !slices.Contains(chosen, c.tag); excluded != want {
				t.Errorf("-tags %s: %s is made of %v, excluded: want %v", all, c.pkg, files, want)
			}
			if !excluded {
				continue
			}
			for _, dep := range linked {
				if slices.ContainsFunc(c.sdk, func(prefix string) bool { return strings.HasPrefix(dep, prefix) }) {
					t.Errorf("-tags %s links %s", all, dep)
				}
			}
		}
	}
	for _, c := range clouds {
		if files := strings.Fields(golist(t, "", "-f", "{{range .GoFiles}}{{.}} {{end}}", "./"+c.pkg)[0]); slices.Contains(
			files, "excluded.go") {
			t.Errorf("without tags %s is made of %v", c.pkg, files)
		}
	}
}

// A user of Lambda links the services that its functions need, and those that the configuration
// asks for credentials. EC2's client takes minutes to compile, so only the orchestrator links it.
func TestLambdaLinksNoOtherService(t *testing.T) {
	t.Parallel()
	const services = "github.com/aws/aws-sdk-go-v2/service/"
	allowed := []string{"lambda", "s3", "iam", "cloudwatchlogs", "internal", "sts", "sso", "ssooidc", "signin"}
	for _, dep := range deps(t, "", "", "./faas/aws") {
		if name, ok := strings.CutPrefix(dep, services); ok {
			if name, _, _ = strings.Cut(name, "/"); !slices.Contains(allowed, name) {
				t.Errorf("faas/aws links %s", dep)
			}
		}
	}
}

// A trimmed program explains which provider it lacks, and does not list it.
func TestATrimmedProgramExplainsWhatIsMissing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a program")
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "-tags", "faas_only,faas_azure",
		"./internal/moduletest/testdata/linked")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.TrimSpace(string(out))
	for _, want := range []string{
		`gcp-functions: faas: provider "gcp-functions" was left out of this build by -tags faas_only; add tag faas_gcp`,
		`azure-functions: linked`,
		`custom: linked`,
	} {
		if !slices.Contains(strings.Split(got, "\n"), want) {
			t.Errorf("no line\n%s\nin\n%s", want, got)
		}
	}
}

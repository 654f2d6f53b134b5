package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

// programFlags are all flags of the program, as they are written.
func programFlags() map[string]bool {
	flags := map[string]bool{}
	var add func(*cobra.Command)
	add = func(cmd *cobra.Command) {
		for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
			set.VisitAll(func(f *pflag.Flag) { flags["--"+f.Name] = true })
		}
		for _, sub := range cmd.Commands() {
			add(sub)
		}
	}
	add((&app{}).root())
	return flags
}

func TestRemediesOfTheLibraryBecomeCommands(t *testing.T) {
	for _, tt := range []struct{ check, remedy, want string }{
		{"aws-lambda/region", "aws account enable-region\n" + check.SetField("provider.region", "REGION"),
			"aws account enable-region\ntangle-cloud policy --faas-aws-region REGION"},
		{"gcp-functions/project", check.SetField("provider.project_id", "P"), "tangle-cloud policy --faas-gcp-project P"},
		{"azure-functions/region", check.SetField("provider.region", "R"), "tangle-cloud policy --faas-azure-region R"},
		{"custom/tls", check.SetOption("client_cert", "FILE", "client_key", "FILE"),
			"tangle-cloud policy --faas-option client_cert=FILE --faas-option client_key=FILE"},
		{"custom/limits", check.SetField("default_memory_mb", "512", "default_timeout_secs", "60"),
			"tangle-cloud policy --faas-memory 512 --faas-timeout 60"},
		{"custom/endpoint", "start it, or name another one: " + check.SetField("provider.endpoint", "URL"),
			"start it, or name another one: tangle-cloud policy --faas-custom-endpoint URL"},
		{"aws-lambda/bucket", check.SetOption("bucket", "BUCKET") + " (a bucket in R)",
			"tangle-cloud policy --faas-option bucket=BUCKET (a bucket in R)"},
		{"policy", check.SetField("enable", "true"), "tangle-cloud policy --serverless true"},
		{"mine/x", check.SetField("unheard", "of"), "set serverless.unheard to of"},
		{"binary", "build it again", "build it again"},
	} {
		got := strings.Join(remedies(faas.Check{Name: tt.check, Status: faas.CheckWarning, Remedy: tt.remedy}), "\n")
		if got != tt.want {
			t.Errorf("%s: %q becomes %q, want %q", tt.check, tt.remedy, got, tt.want)
		}
	}
	flags := programFlags()
	for _, table := range []map[string]string{optionFlags, fieldFlags} {
		for name, flag := range table {
			if !flags[flag] {
				t.Errorf("%s: the program has no flag %s", name, flag)
			}
		}
	}
}

// TestTheLibraryNamesNoCommandOfTheProgram reads the string literals of all packages but the
// program's and the examples'.
func TestTheLibraryNamesNoCommandOfTheProgram(t *testing.T) {
	flag := regexp.MustCompile(`--[a-z][a-z0-9-]+`)
	program := regexp.MustCompile(`\b(tangle-cloud|cloud (policy|profile|plan|deploy|doctor|platform|recover|undeploy))\b`)
	flags := programFlags()
	// Commands of other programs, such as aws and useradd, have these flags too.
	for _, shared := range []string{"--name", "--output", "--policy", "--profile", "--system"} {
		delete(flags, shared)
	}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(filepath.ToSlash(path), "../")
		if entry.IsDir() && slices.Contains([]string{"cli", "cmd", "examples", "tools", "internal/doctest", ".git"}, rel) {
			return filepath.SkipDir
		}
		// The root offers these flags to other programs, and a runner has flags of its own.
		if rel == "runner/main.go" || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") ||
			rel == "policy_flags.go" {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			named := program.FindAllString(text, -1)
			for _, f := range flag.FindAllString(text, -1) {
				if flags[f] || strings.HasPrefix(f, "--faas-") {
					named = append(named, f)
				}
			}
			if len(named) > 0 {
				t.Errorf("%s names %q, which belongs to the program", fset.Position(literal.Pos()), named)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

package runner

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The guide for operators names every variable, event, outcome and metric that there is.
func TestTheGuideNamesWhatAnOperatorMeets(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "runner.md"))
	if err != nil {
		t.Fatal(err)
	}
	guide := string(text)
	names := 0
	want := func(what, name string) {
		names++
		if !strings.Contains(guide, "`"+name+"`") {
			t.Errorf("docs/runner.md does not name the %s `%s`", what, name)
		}
	}
	for _, v := range variables {
		want("variable", v.name)
	}
	for typ, values := range constants(t, "events.go") {
		for _, value := range values {
			want(typ, value)
		}
	}
	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\bp ?\+ ?"([a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
		want("metric", "blueprint_runner_"+m[1])
	}
	if names < 60 {
		t.Errorf("only %d names were found", names)
	}
}

// constants returns the texts of the typed constants in a file, by type.
func constants(t *testing.T, path string) map[string][]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		typ, named := spec.Type.(*ast.Ident)
		literal, text := spec.Values[0].(*ast.BasicLit)
		if named && text && literal.Kind == token.STRING {
			value, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			found[typ.Name] = append(found[typ.Name], value)
		}
		return true
	})
	return found
}

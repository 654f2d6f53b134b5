package moduletest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The drawing in docs/architecture.md lists files of the root, from the top. Each may use only what
// files beside or below it declare, methods and fields included.
func TestTheFilesOfADeploymentUseOnlyThoseBelowThem(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, drawing, _ := strings.Cut(string(text), "### The way of a deployment")
	drawing, _, _ = strings.Cut(drawing, "faas.Executor")
	step := map[string]int{}
	for i, line := range strings.Split(drawing, "\n") {
		for _, name := range regexp.MustCompile(`\b[a-z]+\.go\b`).FindAllString(line, -1) {
			step[name] = i
		}
	}
	if len(step) < 10 {
		t.Fatalf("the drawing has %d files", len(step))
	}
	names, err := filepath.Glob(filepath.Join(root, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range step {
		if !slices.Contains(names, filepath.Join(root, name)) {
			t.Errorf("the drawing has %s, which does not exist", name)
		}
	}
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
		}
	}
	// Without imports there are many errors, but the names of the package itself are found.
	uses := map[*ast.Ident]types.Object{}
	cfg := types.Config{Error: func(error) {}}
	pkg, _ := cfg.Check("serverless", fset, parsed, &types.Info{Uses: uses})
	file := func(pos token.Pos) string { return filepath.Base(fset.Position(pos).Filename) }
	found := 0
	for id, used := range uses {
		user, by := file(id.Pos()), file(used.Pos())
		if step[user] == 0 || step[by] == 0 || user == by || used.Pkg() != pkg {
			continue
		}
		if found++; step[by] < step[user] {
			t.Errorf("%s uses %s of %s, which is above it", fset.Position(id.Pos()), id.Name, by)
		}
	}
	if found < 100 {
		t.Errorf("only %d uses were found", found)
	}
}

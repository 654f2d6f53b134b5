package moduletest

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	module = "github.com/tangle-network/blueprint-serverless"
	root   = "../.."
	golden = root + "/api"
)

var (
	update  = flag.Bool("update", false, "write the files in api/ anew")
	systems = flag.String("systems", "", "comma-separated operating systems whose public surface is compared, too")
)

// pkg is a public package: one that others can import and that is meant for them.
type pkg struct {
	path, name, dir string
	files, tests    []string // of the package itself, and of its tests
}

// file returns the file that holds the package's surface.
func (p pkg) file() string {
	short := strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(p.path, module), "/"), "/", "-")
	if short == "" {
		short = "serverless"
	}
	return short + ".txt"
}

// lookAtSources reads every source file of the module. The go command then knows that the results
// depend on them, and does not reuse cached ones. It cannot see what go list reads.
var lookAtSources = sync.OnceValue(func() error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		return err
	})
})

// golist runs go list in the module's root and returns the lines that it prints.
func golist(t *testing.T, goos string, args ...string) []string {
	t.Helper()
	if err := lookAtSources(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false") // no -tags of whoever runs the tests
	if goos != "" {
		cmd.Env = append(cmd.Env, "GOOS="+goos, "CGO_ENABLED=0")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.Bytes())
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// public returns the public packages.
func public(t *testing.T) []pkg {
	t.Helper()
	var all []pkg
	for _, line := range golist(t, "", "-f", "{{.ImportPath}}\t{{.Name}}\t{{.Dir}}\t{{join .GoFiles \" \"}}\t{{join "+
		".TestGoFiles \" \"}} {{join .XTestGoFiles \" \"}}", "./...") {
		row := strings.Split(line, "\t")
		p := pkg{path: row[0], name: row[1], dir: row[2], files: strings.Fields(row[3]), tests: strings.Fields(row[4])}
		if short := strings.TrimPrefix(p.path, module+"/"); p.name == "main" || strings.HasPrefix(short, "examples/") ||
			slices.Contains(strings.Split(short, "/"), "internal") {
			continue
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d public packages were found", len(all))
	}
	return all
}

// surfaces returns what each public package exports, by the name of its file.
func surfaces(t *testing.T, goos string, packages []pkg) map[string]string {
	t.Helper()
	args := []string{"-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}
	for _, p := range packages {
		args = append(args, p.path)
	}
	exports := map[string]string{}
	for _, line := range golist(t, goos, args...) {
		path, file, _ := strings.Cut(line, "\t")
		exports[path] = file
	}
	imports := importer.ForCompiler(token.NewFileSet(), "gc",
		func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	all := map[string]string{}
	for _, p := range packages {
		loaded, err := imports.Import(p.path)
		if err != nil {
			t.Fatal(err)
		}
		all[p.file()] = surface(loaded)
	}
	return all
}

// The public surface changes only on purpose. Everything exported, with types, values of constants
// and names in JSON, is in api/, where a review sees it.
func TestThePublicSurfaceIsWhatIsCheckedIn(t *testing.T) {
	packages := public(t)
	got := surfaces(t, "", packages)
	if *update {
		for name, text := range got {
			if err := os.WriteFile(filepath.Join(golden, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if _, ok := got[entry.Name()]; !ok {
			if *update {
				if err := os.Remove(filepath.Join(golden, entry.Name())); err != nil {
					t.Fatal(err)
				}
				continue
			}
			t.Errorf("api/%s is of no public package", entry.Name())
		}
	}
	for name, text := range got {
		want, err := os.ReadFile(filepath.Join(golden, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(lines(string(want)), lines(text)); diff != "" {
			t.Errorf("what api/%s says and what is exported differ (-checked in +now):\n%s", name, diff)
		}
	}
	if t.Failed() {
		t.Log("if that is on purpose, read the compatibility policy in CONTRIBUTING.md and run:  go test " +
			"./internal/moduletest -update")
	}
	for _, goos := range strings.FieldsFunc(*systems, func(r rune) bool { return r == ',' }) {
		want, compared := maps.Clone(got), []pkg{}
		for _, p := range packages {
			switch strings.TrimPrefix(p.path, module+"/") {
			case "orchestrator/ec2", "faas/aws", "faas/gcp", "faas/azure", "faas/all":
				// The clouds' clients take minutes and gigabytes to compile for another system.
				delete(want, p.file())
				continue
			}
			compared = append(compared, p)
		}
		if diff := cmp.Diff(want, surfaces(t, goos, compared)); diff != "" {
			t.Errorf("the surface is another on %s (-here +there):\n%s", goos, diff)
		}
	}
}

func lines(text string) []string { return slices.Collect(strings.Lines(text)) }

// surface lists what a package exports: a sorted line for each declaration, field and method.
func surface(p *types.Package) string {
	s := &printer{pkg: p}
	scope := p.Scope()
	for _, name := range scope.Names() {
		if obj := scope.Lookup(name); obj.Exported() {
			s.object(obj)
		}
	}
	slices.Sort(s.lines)
	s.lines = slices.Compact(s.lines) // an alias and what it stands for have the same methods
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	for _, line := range s.lines {
		fmt.Fprintln(w, line)
	}
	_ = w.Flush() // into memory
	return b.String()
}

type printer struct {
	pkg   *types.Package
	lines []string
}

func (s *printer) printf(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *printer) object(obj types.Object) {
	switch obj := obj.(type) {
	case *types.Const:
		s.printf("const %s %s = %s", obj.Name(), s.text(obj.Type()), obj.Val().ExactString())
	case *types.Var:
		s.printf("var %s %s", obj.Name(), s.text(obj.Type()))
	case *types.Func:
		s.printf("func %s%s", obj.Name(), s.signature(obj.Signature()))
	case *types.TypeName:
		s.typeName(obj)
	}
}

func (s *printer) typeName(obj *types.TypeName) {
	name := obj.Name()
	t := obj.Type()
	if alias, ok := t.(*types.Alias); ok {
		s.printf("type %s = %s", name, s.text(alias.Rhs()))
		t = types.Unalias(t)
		if named, ok := t.(*types.Named); ok && named.Obj().Pkg() != nil &&
			!strings.Contains(named.Obj().Pkg().Path(), "/internal/") {
			return // public elsewhere, and listed there
		}
	}
	switch u := t.Underlying().(type) {
	case *types.Struct:
		s.printf("type %s struct", name)
		for i := range u.NumFields() {
			field := u.Field(i)
			if !field.Exported() {
				continue
			}
			embedded, tag := "", u.Tag(i)
			if field.Embedded() {
				embedded = "embedded "
			}
			if tag != "" {
				tag = " `" + tag + "`"
			}
			s.printf("type %s struct, %s%s %s%s", name, embedded, field.Name(), s.text(field.Type()), tag)
		}
	case *types.Interface:
		s.printf("type %s interface", name)
		for i := range u.NumMethods() {
			if m := u.Method(i); m.Exported() {
				s.printf("type %s interface, %s%s", name, m.Name(), s.signature(m.Signature()))
			} else {
				s.printf("type %s interface, unexported methods", name)
			}
		}
		return
	default:
		s.printf("type %s %s", name, s.text(u))
	}
	values := types.NewMethodSet(t)
	pointers := types.NewMethodSet(types.NewPointer(t))
	for i := range pointers.Len() {
		m := pointers.At(i).Obj().(*types.Func)
		if !m.Exported() {
			continue
		}
		receiver := "*" + name
		if values.Lookup(m.Pkg(), m.Name()) != nil {
			receiver = name
		}
		s.printf("method (%s) %s%s", receiver, m.Name(), s.signature(m.Signature()))
	}
}

// text returns a type without the names of parameters, on which nobody depends.
func (s *printer) text(t types.Type) string {
	if sig, ok := t.(*types.Signature); ok {
		return "func" + s.signature(sig)
	}
	return types.TypeString(t, func(p *types.Package) string {
		if p == s.pkg {
			return ""
		}
		return p.Name()
	})
}

func (s *printer) signature(sig *types.Signature) string {
	params := make([]string, sig.Params().Len())
	for i := range params {
		t := sig.Params().At(i).Type()
		if slice, ok := t.(*types.Slice); ok && sig.Variadic() && i == len(params)-1 {
			params[i] = "..." + s.text(slice.Elem())
		} else {
			params[i] = s.text(t)
		}
	}
	results := make([]string, sig.Results().Len())
	for i := range results {
		results[i] = s.text(sig.Results().At(i).Type())
	}
	text := "(" + strings.Join(params, ", ") + ")"
	switch len(results) {
	case 0:
		return text
	case 1:
		return text + " " + results[0]
	}
	return text + " (" + strings.Join(results, ", ") + ")"
}

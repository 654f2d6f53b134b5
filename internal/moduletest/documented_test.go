package moduletest

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// noExample lists the public packages without an example, with the reason.
var noExample = map[string]string{
	"faas/all": "there is nothing to call",
}

// entryPoints lists, by package, the functions of which a newcomer looks for an example.
var entryPoints = map[string][]string{
	"": {
		"LoadPolicy", "Policy.Save", "BindPolicyFlags", "FetchMetadata", "VerifyBinary", "Analyze",
		"AnalyzeFor", "NewPlan", "Deploy",
		"DeployServerless", "OpenService", "ListServices", "Recover", "Service.Invoke", "WithEvents", "WithTraditional",
	},
	"cost":              {"ForProvider", "Compare"},
	"profile":           {"Measure"},
	"cost/refresh":      {"Prices"},
	"faas":              {"Open", "Register", "InspectBinary", "BuildPackage", "Error", "ProviderLimits"},
	"faas/aws":          {"New"},
	"faas/gcp":          {"New"},
	"faas/azure":        {"New"},
	"faas/custom":       {"New"},
	"faas/platform":     {""},
	"faas/job":          {"Main"},
	"faas/faastest":     {"Run", "NewMemory", "Faulty"},
	"runner":            {"Main", "New"},
	"runner/codec":      {"Parse"},
	"runner/bls":        {"", "New", "Service"},
	"runner/otelrunner": {""},
	"otelfaas":          {""},
	"report":            {""},
	"orchestrator":      {"Local"},
	"orchestrator/ec2":  {""},
}

func load(t *testing.T, p pkg) *doc.Package {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range append(slices.Clone(p.files), p.tests...) {
		f, err := parser.ParseFile(fset, filepath.Join(p.dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	d, err := doc.NewFromFiles(fset, files, p.path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEverythingPublicIsDocumented(t *testing.T) {
	for _, p := range public(t) {
		d := load(t, p)
		if !strings.HasPrefix(d.Doc, "Package "+p.name+" ") {
			t.Errorf("%s: the package comment does not begin with %q", p.path, "Package "+p.name)
		}
		check := func(name, text string) {
			if strings.TrimSpace(text) == "" {
				t.Errorf("%s: %s has no comment", p.path, name)
			}
		}
		funcs := func(prefix string, all []*doc.Func) {
			for _, f := range all {
				check(prefix+f.Name, f.Doc)
			}
		}
		values := func(all []*doc.Value) {
			for _, v := range all {
				for _, spec := range v.Decl.Specs {
					spec := spec.(*ast.ValueSpec)
					if slices.ContainsFunc(spec.Names, func(n *ast.Ident) bool { return n.IsExported() }) {
						check(spec.Names[0].Name, v.Doc+spec.Doc.Text()+spec.Comment.Text())
					}
				}
			}
		}
		funcs("", d.Funcs)
		values(d.Consts)
		values(d.Vars)
		for _, typ := range d.Types {
			check(typ.Name, typ.Doc)
			funcs("", typ.Funcs)
			funcs(typ.Name+".", typ.Methods)
			values(typ.Consts)
			values(typ.Vars)
			for _, spec := range typ.Decl.Specs {
				if i, ok := spec.(*ast.TypeSpec).Type.(*ast.InterfaceType); ok {
					for _, m := range i.Methods.List {
						if len(m.Names) > 0 && m.Names[0].IsExported() {
							check(typ.Name+"."+m.Names[0].Name, m.Doc.Text()+m.Comment.Text())
						}
					}
				}
			}
		}
	}
}

// Examples are compiled, so that what a newcomer copies works.
func TestTheMainEntryPointsHaveExamples(t *testing.T) {
	for _, p := range public(t) {
		d := load(t, p)
		have := map[string]bool{}
		note := func(name string, examples []*doc.Example) {
			have[name] = have[name] || len(examples) > 0
		}
		note("", d.Examples)
		any := len(d.Examples)
		for _, f := range d.Funcs {
			note(f.Name, f.Examples)
			any += len(f.Examples)
		}
		for _, typ := range d.Types {
			note(typ.Name, typ.Examples)
			any += len(typ.Examples)
			for _, f := range typ.Funcs {
				note(f.Name, f.Examples)
				any += len(f.Examples)
			}
			for _, m := range typ.Methods {
				note(typ.Name+"."+m.Name, m.Examples)
				any += len(m.Examples)
			}
		}
		short := strings.TrimPrefix(strings.TrimPrefix(p.path, module), "/")
		if reason := noExample[short]; (any == 0) != (reason != "") {
			t.Errorf("%s has %d examples, and the reason for none is %q", p.path, any, reason)
		}
		for _, name := range entryPoints[short] {
			exists, known := have[name]
			switch {
			case name == "" && any > 0:
			case !known:
				t.Errorf("%s has no %s", p.path, name)
			case !exists:
				t.Errorf("%s: %s has no example", p.path, name)
			}
		}
	}
}

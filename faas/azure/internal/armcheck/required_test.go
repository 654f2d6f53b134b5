package armcheck

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
)

// requirements holds the fields that the generated models mark as required, by package and type.
type requirements map[string]map[string][]string

// missing returns an error for a required field that is not set in a model or in what it contains.
func (r requirements) missing(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return r.missing(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if err := r.missing(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Struct:
		fields, err := r.of(v.Type())
		if err != nil {
			return err
		}
		for _, name := range fields {
			if v.FieldByName(name).IsNil() {
				return fmt.Errorf("%s.%s is required and missing", v.Type(), name)
			}
		}
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue
			}
			if err := r.missing(v.Field(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// of returns the names of a model's required fields, according to the comments of its source.
func (r requirements) of(model reflect.Type) ([]string, error) {
	pkg := model.PkgPath()
	if !strings.Contains(pkg, "/resourcemanager/") {
		return nil, nil // such as time.Time
	}
	if r[pkg] == nil {
		dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "models.go"), nil,
			parser.ParseComments)
		if err != nil {
			return nil, err
		}
		r[pkg] = map[string][]string{}
		ast.Inspect(file, func(n ast.Node) bool {
			t, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := t.Type.(*ast.StructType); ok {
				for _, field := range s.Fields.List {
					if len(field.Names) > 0 && strings.HasPrefix(field.Doc.Text(), "REQUIRED;") {
						r[pkg][t.Name.Name] = append(r[pkg][t.Name.Name], field.Names[0].Name)
					}
				}
			}
			return false
		})
		if len(r[pkg]) == 0 {
			return nil, fmt.Errorf("no model of %s requires anything", pkg)
		}
	}
	return r[pkg][model.Name()], nil
}

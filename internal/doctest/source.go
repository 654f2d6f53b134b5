package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Sources are the Go files of the module without indentation, by their paths below the root.
type Sources map[string]string

// ReadSources reads every Go file of the module but those in testdata, which nothing compiles.
func ReadSources(t testing.TB) Sources {
	t.Helper()
	root, all := Root(t), Sources{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root):
			return fs.SkipDir
		case filepath.Ext(path) != ".go":
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil {
			var name string
			if name, err = filepath.Rel(root, path); err == nil {
				all[filepath.ToSlash(name)] = dedent(string(text))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Holds returns the file in which a block stands line for line, whatever its indentation.
func (s Sources) Holds(b Block) (file string, ok bool) {
	for name, text := range s {
		if strings.Contains("\n"+text, "\n"+dedent(b.Text)) {
			return name, true
		}
	}
	return "", false
}

func dedent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

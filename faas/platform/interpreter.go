package platform

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// checkInterpreter refuses a script, or a dynamic executable, whose interpreter this machine lacks,
// because every call would fail. env is the function's environment.
func checkInterpreter(bin *faas.Binary, env map[string]string) error {
	if bin.Interpreter == "" || runtime.GOOS == "windows" {
		return nil
	}
	missing := func(what string) error {
		return notRunError(faas.ErrInvalidArgument, "deploy",
			"%s needs %.100q, which this platform does not have: bring it in the package, or use a binary that needs nothing",
			bootstrap, what)
	}
	name, argument := bin.Interpreter, ""
	if bin.Format == faas.FormatScript {
		name, argument = firstLine(bin.Path)
	}
	if filepath.IsAbs(name) && !executable(name) {
		return missing(name)
	}
	if filepath.Base(name) != "env" {
		return nil
	}
	for _, program := range strings.Fields(argument) {
		if strings.HasPrefix(program, "-") || strings.Contains(program, "=") { // options and variables of env
			continue
		}
		path, ok := env["PATH"]
		if !ok {
			path = worker.DefaultPath
		}
		for _, dir := range filepath.SplitList(path) {
			if strings.Contains(program, "/") || !filepath.IsAbs(dir) || executable(filepath.Join(dir, program)) {
				return nil // or it cannot be told from here
			}
		}
		return missing(program)
	}
	return nil
}

// firstLine parses the first line of a script as Linux does: a name up to a blank, with any
// carriage return, and the rest.
func firstLine(path string) (name, argument string) {
	f, err := os.Open(path)
	if err != nil {
		return "", ""
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 256) // BINPRM_BUF_SIZE
	n, _ := io.ReadFull(f, head)
	line, _, _ := strings.Cut(strings.TrimPrefix(string(head[:n]), "#!"), "\n")
	line = strings.Trim(line, " \t")
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], line[i:]
	}
	return line, ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

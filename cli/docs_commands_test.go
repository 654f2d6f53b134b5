//go:build unix

package cli

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/doctest"
)

const modulePath = "github.com/tangle-network/blueprint-serverless"

// This file plays programs that documents use but some machines lack. It knows only the flags that
// the documents use.

func curlCommand(ctx context.Context, c doctest.Call) error {
	method, address, header, body := "", "", http.Header{}, []byte(nil)
	for i := 1; i < len(c.Args); i++ {
		arg := c.Args[i]
		if !strings.HasPrefix(arg, "-") {
			address = arg
			continue
		}
		i++
		if i == len(c.Args) {
			return fmt.Errorf("%s lacks its value", arg)
		}
		value := c.Args[i]
		switch arg {
		case "-X":
			method = value
		case "-H":
			name, text, _ := strings.Cut(value, ":")
			header.Add(name, strings.TrimSpace(text))
		case "-d", "--data-binary":
			body = []byte(value)
			if file, ok := strings.CutPrefix(value, "@"); ok {
				var err error
				if body, err = os.ReadFile(filepath.Join(c.Dir, file)); err != nil {
					return err
				}
			}
			if method == "" {
				method = http.MethodPost
			}
		default:
			return fmt.Errorf("flag %s is not played here", arg)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = header
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(c.Stdout, resp.Body)
	return err
}

func zipCommand(_ context.Context, c doctest.Call) (err error) {
	if len(c.Args) < 3 || strings.HasPrefix(c.Args[1], "-") {
		return errors.New("usage: zip FILE NAME...")
	}
	f, err := os.Create(filepath.Join(c.Dir, c.Args[1]))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z := zip.NewWriter(f)
	for _, name := range c.Args[2:] {
		text, err := os.ReadFile(filepath.Join(c.Dir, name))
		if err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(c.Dir, name))
		if err != nil {
			return err
		}
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(info.Mode())
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write(text)
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}

func sha256sumCommand(_ context.Context, c doctest.Call) error {
	for _, name := range c.Args[1:] {
		text, err := os.ReadFile(filepath.Join(c.Dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(c.Stdout, "%x  %s\n", sha256.Sum256(text), name)
	}
	return nil
}

// goCommand runs the go command, but for what would take the network, or all day:
//
//   - go install of this module at a version: the package must be a program of this checkout;
//   - go mod tidy, which reads the tests of all dependencies: the module gets the same result, with
//     this checkout instead of a version;
//   - go test in the module, whose tests run anyway: the package and everything that -run and
//     -bench name must exist;
//   - go run in the module, as most programs serve until Ctrl-C: the program must print its help,
//     with every flag that the document uses;
//   - go list in the module runs from its root;
//   - go build in the module, which .ci/run does with these tags: the package must be a program.
func goCommand(t *testing.T) doctest.Command {
	root := doctest.Root(t)
	return func(ctx context.Context, c doctest.Call) error {
		if len(c.Args) < 2 {
			return errors.New("which go command?")
		}
		flags, words := map[string]string{}, []string{}
		for i := 2; i < len(c.Args); i++ {
			switch arg := c.Args[i]; {
			case slices.Contains([]string{"-tags", "-run", "-bench", "-benchtime", "-count", "-f", "-o", "-timeout"}, arg) &&
				i+1 < len(c.Args):
				flags[arg] = c.Args[i+1]
				i++
			case strings.HasPrefix(arg, "-"):
				flags[arg] = ""
			default:
				words = append(words, arg)
			}
		}
		here := len(words) > 0 && strings.HasPrefix(words[0], "./")
		switch sub := c.Args[1]; {
		case sub == "install" && len(words) == 1 && strings.HasPrefix(words[0], modulePath+"/"):
			path, _, _ := strings.Cut(strings.TrimPrefix(words[0], modulePath), "@")
			return isProgram(ctx, root, "."+path, flags["-tags"])
		case sub == "list" && here:
			return c.Run(ctx, "go", []string{"-C", root, "list", "-f", flags["-f"], words[0]})
		case sub == "build" && here:
			return isProgram(ctx, root, words[0], flags["-tags"])
		case sub == "run" && here:
			return hasFlags(ctx, root, words[0], flags)
		case sub == "test" && here:
			return hasTests(root, words[0], flags)
		case sub == "mod" && slices.Equal(words, []string{"tidy"}):
			sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
			if err == nil {
				err = os.WriteFile(filepath.Join(c.Dir, "go.sum"), sums, 0o644)
			}
			if err != nil {
				return err
			}
			return c.Run(ctx, "go", []string{"mod", "edit", "-replace", modulePath + "=" + root, "-require",
				modulePath + "@v0.0.0"})
		}
		return c.Run(ctx, "go", c.Args[1:])
	}
}

func isProgram(ctx context.Context, root, pkg, tags string) error {
	cmd := exec.CommandContext(ctx, "go", "list", "-tags", tags, "-f", "{{.Name}}", pkg)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err == nil && strings.TrimSpace(string(out)) != "main" {
		err = fmt.Errorf("%s is no program", pkg)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func hasFlags(ctx context.Context, root, pkg string, flags map[string]string) error {
	cmd := exec.CommandContext(ctx, "go", "run", "-tags", flags["-tags"], pkg, "-h")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	for name := range flags {
		if name != "-tags" && !regexp.MustCompile(`(?m)^\s+-?`+regexp.QuoteMeta(name)+`\b`).Match(out) {
			return fmt.Errorf("%s has no flag %s:\n%s", pkg, name, out)
		}
	}
	return nil
}

var testNames = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz|Example)\w*)\(`)

func hasTests(root, pkg string, flags map[string]string) error {
	if pkg == "./..." {
		return nil
	}
	names := []string{}
	defined := map[string]bool{"-benchmem": true, "-race": true, "-v": true, "-short": true}
	err := filepath.WalkDir(filepath.Join(root, strings.TrimSuffix(pkg, "/...")),
		func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range testNames.FindAllStringSubmatch(string(text), -1) {
				names = append(names, m[1])
			}
			for _, m := range regexp.MustCompile(`flag\.\w+\("([\w.]+)"`).FindAllStringSubmatch(string(text), -1) {
				defined["-"+m[1]] = true
			}
			return err
		})
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%s has no test", pkg)
	}
	for flag, value := range flags {
		switch flag {
		case "-run", "-bench":
			for _, one := range strings.Split(value, "|") {
				if one != "^$" && one != "." && !slices.ContainsFunc(
					names, regexp.MustCompile(strings.Split(one, "/")[0]).MatchString) {
					return fmt.Errorf("%s: nothing is called %q", pkg, one)
				}
			}
		case "-count", "-benchtime", "-timeout", "-tags":
		default:
			if !defined[flag] {
				return fmt.Errorf("%s: its tests have no flag %s", pkg, flag)
			}
		}
	}
	return nil
}

package gcptest

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
)

// Builder builds as Google's Go buildpack does: it unpacks a package, generates a main program
// around it, and compiles that with the Go toolchain of this machine. It compiles equal sources
// once.
type Builder struct {
	// Genuine makes the go command download the functions framework. Otherwise a stand-in is used,
	// offline.
	Genuine bool

	dir string
	mu  sync.Mutex
	m   map[string]func() (string, error)
}

// NewBuilder returns a builder that works in a directory, which the caller must remove.
func NewBuilder(dir string) *Builder {
	return &Builder{dir: dir, m: map[string]func() (string, error){}}
}

// once runs make once per key.
func (b *Builder) once(key string, make func() (string, error)) (string, error) {
	b.mu.Lock()
	f := b.m[key]
	if f == nil {
		f = sync.OnceValues(make)
		b.m[key] = f
	}
	b.mu.Unlock()
	return f()
}

// workspace is a built function: the program, and the directory in which it runs.
type workspace struct{ program, dir string }

const sourceDir = "serverless_function_source_code" // where the buildpack moves everything to

// Build builds a package.
func (b *Builder) Build(pkg []byte, target string, loseExecutable bool) (*workspace, error) {
	sum := sha256.Sum256(pkg)
	key := fmt.Sprintf("%s-%v", hex.EncodeToString(sum[:8]), loseExecutable)
	dir, err := b.once("unpack "+key, func() (string, error) {
		dir := filepath.Join(b.dir, "workspace-"+key)
		return dir, unpack(pkg, filepath.Join(dir, sourceDir), loseExecutable)
	})
	if err != nil {
		return nil, err
	}
	sources, err := readSources(filepath.Join(dir, sourceDir))
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	for _, f := range sources {
		fmt.Fprintf(hash, "%s %d\n%s", f.name, len(f.text), f.text)
	}
	id := hex.EncodeToString(hash.Sum([]byte(target))[:16])
	program, err := b.once("compile "+id+target,
		func() (string, error) { return b.compile(filepath.Join(b.dir, "build-"+id), sources, target) })
	if err != nil {
		return nil, err
	}
	return &workspace{program, dir}, nil
}

func unpack(pkg []byte, dir string, loseExecutable bool) error {
	r, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		return err
	}
	for _, f := range r.File {
		if !fs.ValidPath(f.Name) {
			return fmt.Errorf("the zip holds %q", f.Name)
		}
		to := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		mode := f.Mode().Perm()
		if loseExecutable {
			mode &^= 0o111
		}
		if err := unpackFile(f, to, mode); err != nil {
			return err
		}
	}
	return nil
}

func unpackFile(f *zip.File, to string, mode fs.FileMode) error {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return cmp.Or(err, out.Close())
}

type sourceFile struct {
	name string
	text []byte
}

// readSources returns go.mod and the Go files at the root. Without a package there, the buildpack
// fails.
func readSources(dir string) ([]sourceFile, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("error extracting package name: no Go files at the root")
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return nil, fmt.Errorf("neither go.mod nor vendor")
	}
	slices.Sort(names)
	var all []sourceFile
	for _, name := range append(names, filepath.Join(dir, "go.mod")) {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, sourceFile{filepath.Base(name), text})
	}
	return all, nil
}

var modulePattern = regexp.MustCompile(`(?m)^module ([a-z0-9-]+\.[a-z.]+[^\s]*)$`)

// The module of the functions framework, at the version that the buildpack adds to a function that
// does not require one.
const (
	frameworkModule  = "github.com/GoogleCloudPlatform/functions-framework-go"
	frameworkVersion = "v1.9.2"
)

// framework stands in for the functions framework.
const framework = `package funcframework

import (
	"context"
	"net/http"
)

func RegisterHTTPFunctionContext(_ context.Context, path string, fn func(http.ResponseWriter, *http.Request)) error {
	http.HandleFunc(path, fn)
	return nil
}

func Start(port string) error { return http.ListenAndServe(":"+port, nil) }
`

// generatedMain is what the buildpack generates for a function that serves HTTP requests.
const generatedMain = `package main

import (
	"context"
	"log"
	"os"

	target %q

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
)

func main() {
	if err := funcframework.RegisterHTTPFunctionContext(context.Background(), "/", target.%s); err != nil {
		log.Fatal(err)
	}
	if err := funcframework.Start(os.Getenv("PORT")); err != nil {
		log.Fatal(err)
	}
}
`

// mainDir is the directory of the main program within the function's own module.
const mainDir = "functions.local/app"

// compile builds the program in the steps of the buildpack: it adds the framework to the function's
// module, and the main program to its packages.
func (b *Builder) compile(dir string, sources []sourceFile, target string) (string, error) {
	module := modulePattern.FindSubmatch(sources[len(sources)-1].text)
	if module == nil {
		return "", fmt.Errorf("go.mod has no module whose path begins with a host name")
	}
	files := map[string][]byte{sourceDir + "/" + mainDir + "/main.go": fmt.Appendf(nil, generatedMain, module[1], target)}
	for _, f := range sources {
		files[sourceDir+"/"+f.name] = f.text
	}
	steps := [][]string{{"mod", "edit", "-require", frameworkModule + "@" + frameworkVersion}}
	if b.Genuine {
		steps = append(steps, []string{"mod", "tidy"})
	} else {
		files["framework/go.mod"] = []byte("module " + frameworkModule + "\n\ngo 1.21\n")
		files["framework/funcframework/f.go"] = []byte(framework)
		steps = append(steps, []string{"mod", "edit", "-replace", frameworkModule + "=../framework"})
	}
	program := filepath.Join(dir, "main")
	steps = append(steps, []string{"build", "-o", program, "./" + mainDir})
	for name, text := range files {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return "", err
		}
	}
	for _, args := range steps {
		cmd := exec.Command("go", args...)
		cmd.Dir = filepath.Join(dir, sourceDir)
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local", "CGO_ENABLED=0")
		if !b.Genuine {
			cmd.Env = append(cmd.Env, "GOPROXY=off", "GOSUMDB=off")
		}
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w: %s", args[0], err, text)
		}
	}
	return program, nil
}

// Command weigh prints, as a Markdown table, what small programs of this module weigh: how many
// modules they link, how large they are, and how much processor time their first build takes on a
// machine that has compiled nothing yet, not even the standard library. It takes some minutes and
// half a gigabyte of disk:
//
//	go run ./internal/weigh
//
// The root and its dependencies are compiled only once; the figures of every program include that.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const module = "github.com/tangle-network/blueprint-serverless"

// program is a program to weigh. It deploys a service unless body is set.
type program struct {
	name    string
	imports []string // packages of this module, besides the root
	tags    string
	body    string // of main; see source
}

// deploys is a body that makes the linker keep what every deploying program uses.
const deploys = `
	_, err := serverless.Deploy(context.Background(), serverless.ServiceSpec{})
	fmt.Println(err)
`

var programs = []program{
	{name: "the root alone"},
	{name: "custom", imports: []string{"faas/custom"}},
	{name: "aws", imports: []string{"faas/aws"}},
	{name: "gcp", imports: []string{"faas/gcp"}},
	{name: "azure", imports: []string{"faas/azure"}},
	{name: "the runner on EC2", imports: []string{"orchestrator/ec2"}, body: `
	o, err := ec2.New(context.Background(), ec2.Config{})
	fmt.Println(err)
	_, err = serverless.Deploy(context.Background(), serverless.ServiceSpec{}, serverless.WithOrchestrator(o))
	fmt.Println(err)
`},
	{name: "all", imports: []string{"faas/all"}},
	{name: "all", imports: []string{"faas/all"}, tags: "faas_only"},
	{name: "all", imports: []string{"faas/all"}, tags: "faas_only,faas_aws"},
	{name: "all", imports: []string{"faas/all"}, tags: "faas_only,faas_gcp"},
	{name: "all", imports: []string{"faas/all"}, tags: "faas_only,faas_azure"},
}

// source returns the program's main.go.
func (p program) source() string {
	body := cmp.Or(p.body, deploys)
	imports := []string{`"context"`, `"fmt"`, `serverless "` + module + `"`}
	for _, pkg := range p.imports {
		name := "_ "
		if strings.Contains(body, path.Base(pkg)+".") {
			name = ""
		}
		imports = append(imports, name+`"`+path.Join(module, pkg)+`"`)
	}
	return "package main\n\nimport (\n\t" + strings.Join(imports, "\n\t") + "\n)\n\nfunc main() {" + body + "}\n"
}

func main() {
	only := flag.String("run", "", "weigh only the programs whose name matches this regular expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "weigh:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) (err error) {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	dir, err := os.MkdirTemp("", "weigh-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &scales{root: strings.TrimSpace(string(root)), dir: dir, cache: filepath.Join(dir, "cache")}
	if err := s.calibrate(ctx); err != nil {
		return err
	}
	fmt.Println("| program | tags | modules | size | first build |\n|---|---|---|---|---|")
	for _, p := range programs {
		if !wanted.MatchString(p.name) {
			continue
		}
		w, err := s.weigh(ctx, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Printf("| %s | %s | %d | %.1f MB | %.0f s |\n", p.name, p.tags, w.modules, float64(w.size)/1e6, w.build.Seconds())
	}
	return nil
}

// scales weigh programs.
type scales struct {
	root  string        // directory of the module
	dir   string        // where everything is written
	cache string        // of builds, with the root compiled
	base  time.Duration // that it took
}

// weight is the result for one program.
type weight struct {
	modules int           // other than this one
	size    int64         // of the executable without its symbols, in bytes
	build   time.Duration // of processors
}

// calibrate measures the compilation of the root.
func (s *scales) calibrate(ctx context.Context) (err error) {
	s.base, err = s.build(ctx, s.cache, s.command(ctx, "build", module))
	return err
}

// build runs a go command with a cache, and returns the processor time of all its processes.
func (s *scales) build(ctx context.Context, cache string, build *exec.Cmd) (time.Duration, error) {
	build.Args = slices.Insert(build.Args, 2, "-trimpath", "-ldflags=-s -w")
	build.Env = append(build.Env, "CGO_ENABLED=0", "GOCACHE="+cache)
	if err := build.Run(); err != nil {
		return 0, err
	}
	return build.ProcessState.UserTime() + build.ProcessState.SystemTime(), nil
}

func (s *scales) weigh(ctx context.Context, p program) (w weight, err error) {
	file := filepath.Join(s.dir, "main.go")
	if err := os.WriteFile(file, []byte(p.source()), 0o600); err != nil {
		return weight{}, err
	}
	const foreign = "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}"
	out, err := s.command(ctx, "list", "-deps", "-f", foreign, "-tags", p.tags, file).Output()
	if err != nil {
		return weight{}, err
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	w.modules = len(slices.Compact(modules))

	cache, executable := filepath.Join(s.dir, "copy"), filepath.Join(s.dir, "program")
	defer func() { err = errors.Join(err, os.RemoveAll(cache)) }()
	if err := os.CopyFS(cache, os.DirFS(s.cache)); err != nil {
		return weight{}, err
	}
	w.build, err = s.build(ctx, cache, s.command(ctx, "build", "-o", executable, "-tags", p.tags, file))
	if err != nil {
		return weight{}, err
	}
	w.build += s.base
	info, err := os.Stat(executable)
	if err != nil {
		return weight{}, err
	}
	w.size = info.Size()
	return w, nil
}

// command returns a go command that runs in the module, so that programs get the versions in
// go.mod.
func (s *scales) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = s.root, os.Stderr
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	return cmd
}

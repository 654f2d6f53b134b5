// Command weigh prints, as a Markdown table, what small programs of this module weigh: how many modules they
// link, how large they are, and what their first build costs on a machine that has compiled nothing yet.
// It needs some minutes and, for what the builds keep, half a gigabyte at a time:
//
//	go run ./internal/weigh
//
// The processor time of a build depends least on what else the machine does. Run it under "nice" beside other work.
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

// program is one that is weighed: it deploys a service, unless body says otherwise.
type program struct {
	name    string
	imports []string // packages of this module that are linked for their effect
	tags    string
	body    string // of main; see source
}

// deploys makes a program reach what programs that deploy reach.
const deploys = `
	_, err := serverless.Deploy(context.Background(), serverless.ServiceSpec{})
	fmt.Println(err)
`

var programs = []program{
	{name: "an empty program", body: "\n"},
	{name: "the root alone"},
	{name: "custom", imports: []string{"faas/custom"}},
	{name: "aws", imports: []string{"faas/aws"}},
	{name: "gcp", imports: []string{"faas/gcp"}},
	{name: "azure", imports: []string{"faas/azure"}},
	{name: "the runner on EC2", body: `
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
	{name: "a job binary", body: "\n\tjob.Main(job.Handlers{})\n"},
}

// source returns the program's main.go.
func (p program) source() string {
	body := cmp.Or(p.body, deploys)
	var imports []string
	for _, known := range []struct{ use, path string }{
		{"context.", `"context"`}, {"fmt.", `"fmt"`}, {"serverless.", `serverless "` + module + `"`},
		{"ec2.", `"` + module + `/ec2"`}, {"job.", `"` + module + `/faas/job"`},
	} {
		if strings.Contains(body, known.use) {
			imports = append(imports, known.path)
		}
	}
	for _, pkg := range p.imports {
		imports = append(imports, `_ "`+path.Join(module, pkg)+`"`)
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

func run(ctx context.Context, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	fmt.Println("| program | tags | modules | size | first build |\n|---|---|---|---|---|")
	for _, p := range programs {
		if !wanted.MatchString(p.name) {
			continue
		}
		w, err := weigh(ctx, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Printf("| %s | %s | %d | %.1f MB | %.0f s, processors %.0f s |\n",
			p.name, p.tags, w.modules, float64(w.size)/1e6, w.elapsed.Seconds(), w.busy.Seconds())
	}
	return nil
}

// weight is what a program weighs.
type weight struct {
	modules       int   // other than this one
	size          int64 // of the executable without its symbols, in bytes
	elapsed, busy time.Duration
}

func weigh(ctx context.Context, p program) (w weight, err error) {
	dir, err := os.MkdirTemp("", "weigh-")
	if err != nil {
		return weight{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	list, err := p.command(ctx, dir, "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}")
	if err != nil {
		return weight{}, err
	}
	out, err := list.Output()
	if err != nil {
		return weight{}, err
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	w.modules = len(slices.Compact(modules))

	executable := filepath.Join(dir, "program")
	build, err := p.command(ctx, dir, "build", "-trimpath", "-ldflags=-s -w", "-o", executable)
	if err != nil {
		return weight{}, err
	}
	build.Env = append(build.Env, "CGO_ENABLED=0", "GOCACHE="+filepath.Join(dir, "cache"))
	start := time.Now()
	if err := build.Run(); err != nil {
		return weight{}, err
	}
	w.elapsed, w.busy = time.Since(start), build.ProcessState.UserTime()+build.ProcessState.SystemTime()
	info, err := os.Stat(executable)
	if err != nil {
		return weight{}, err
	}
	w.size = info.Size()
	return w, nil
}

// command returns a go command on the program, whose file it writes into dir. The command works in this
// module, so that the program gets the versions that go.mod names.
func (p program) command(ctx context.Context, dir string, args ...string) (*exec.Cmd, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(p.source()), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", append(slices.Clone(args), "-tags", p.tags, file)...)
	cmd.Dir, cmd.Stderr = strings.TrimSpace(string(root)), os.Stderr
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	return cmd, nil
}

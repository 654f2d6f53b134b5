package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/cost"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/profile"
)

func (a *app) profileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "profile BINARY", Short: "Measure a binary's jobs, without which none of them is deployed",
		Long: `Runs each job several times on this machine, measures its time and memory, and writes the profiles
file that analyze, plan and deploy read. Choose inputs as demanding as the real ones: the
measurements decide where a job runs.

The file keeps what it has of other jobs, and what --stateful and --persistent declared before.
--replace begins a new file.`,
		Example: `  tangle-cloud profile target/release/my-blueprint --jobs 0,1
  tangle-cloud profile target/release/my-blueprint --input 0=text:hello --input 1=hex:0aff --stateful 2
  tangle-cloud profile target/release/my-blueprint --jobs 0 --on-chain       # also print what to register on chain`,
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	jobs := flags.UintSlice("jobs", nil, "`ids` of the jobs to profile without arguments, such as 0,1,2")
	inputs := flags.StringArray("input", nil, "`JOB=FORM:VALUE`: an input to profile a job with; FORM is text, hex, "+
		"base64, numbers or file; may be repeated")
	stateful := flags.UintSlice("stateful", nil, "`ids` of jobs that keep state between invocations")
	persistent := flags.UintSlice("persistent", nil, "`ids` of jobs that keep connections open between invocations")
	runs := flags.Int("runs", 10, "measured runs of each job")
	warmups := flags.Int("warmups", 2, "runs of each job that do not count")
	timeout := flags.Duration("timeout", 5*time.Minute, "time limit of a single run")
	output := flags.String("output", "", "`file` to write (default: blueprint-profiles.json beside the binary, or "+
		"above its directory for target/release and target/debug)")
	replace := flags.Bool("replace", false, "begin the file anew, without what it has of other jobs and what was declared")
	onChain := flags.Bool("on-chain", false, "print the string to register on chain as profilingData")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		wanted := map[uint32][][]byte{}
		for _, id := range ids(*jobs) {
			wanted[id] = nil
		}
		for _, text := range *inputs {
			id, value, err := parseJobInput(text, a.in)
			if err != nil {
				return err
			}
			wanted[id] = append(wanted[id], value)
		}
		if len(wanted) == 0 {
			return usagef("say which jobs to profile: --jobs 0,1 or --input 0=text:hello")
		}
		file, err := findProfiles(args[0], *output, *replace) // fail before measuring
		if err != nil {
			return err
		}
		show, end := a.profileProgress()
		profiles, err := profile.Measure(cmd.Context(), args[0], wanted,
			profile.WithRuns(*runs), profile.WithWarmups(*warmups), profile.WithTimeout(*timeout),
			profile.WithStateful(ids(*stateful)...), profile.WithPersistentConnections(ids(*persistent)...),
			profile.WithProgress(show))
		end()
		if err != nil {
			return err
		}
		if file, err = findProfiles(args[0], *output, *replace); err != nil { // the file may have changed meanwhile
			return err
		}
		kept, remarks, warnings := file.merge(profiles)
		if err := profiles.WriteFile(file.path); err != nil {
			return err
		}
		a.warn(warnings...)
		report := struct {
			Path     string       `json:"path"`
			Profiles *profile.Set `json:"profiles"`
			Kept     []uint32     `json:"kept,omitempty"` // jobs that were not measured now
			OnChain  string       `json:"on_chain,omitempty"`
			Warnings []string     `json:"warnings,omitempty"`
		}{Path: file.path, Profiles: profiles, Kept: kept, Warnings: warnings}
		if *onChain {
			if report.OnChain, err = profiles.OnChain(); err != nil {
				return err
			}
		}
		return a.answer(report, func(w io.Writer) {
			fmt.Fprintln(w, "job\tavg\tp95\tp99\tmemory\tdeclared")
			for _, id := range slices.Sorted(maps.Keys(profiles.Jobs)) {
				p := profiles.Jobs[id]
				fmt.Fprintf(w, "%d\t%d ms\t%d ms\t%d ms\t%d MB\t%s\n", id, p.AvgDurationMS, p.P95DurationMS, p.P99DurationMS,
					p.PeakMemoryMB, dash(declared(p)))
			}
			if report.OnChain != "" {
				fmt.Fprintln(w, report.OnChain)
			}
			for _, remark := range remarks {
				a.afterwards("%s", remark)
			}
			a.afterwards("written to %s", file.path)
		})
	}
	return cmd
}

func declared(p serverless.JobProfile) string {
	var words []string
	if p.Stateful {
		words = append(words, "stateful")
	}
	if p.PersistentConnections {
		words = append(words, "persistent connections")
	}
	return strings.Join(words, ", ")
}

func ids(values []uint) []uint32 {
	out := make([]uint32, len(values))
	for i, v := range values {
		out[i] = uint32(v)
	}
	return out
}

// profileProgress returns a function that shows the progress of profiling, and one that ends the
// display.
func (a *app) profileProgress() (show func(profile.Progress), end func()) {
	var now atomic.Pointer[string]
	now.Store(new("profiling"))
	end = func() {}
	if !a.json {
		end = a.live(1, func(_, width int) string { return clip(*now.Load(), width) })
	}
	return func(p profile.Progress) {
		now.Store(new(fmt.Sprintf("job %d: run %d of %d, %d ms, %d MB", p.JobID, p.Run, p.Runs, p.Duration.Milliseconds(),
			p.PeakMemoryMB)))
		if p.Run == p.Runs && a.log.width == nil && !a.quiet && !a.json {
			a.log.printf("job %d: %d runs\n", p.JobID, p.Runs)
		}
	}, end
}

// chainFlags say where to read a blueprint's metadata.
type chainFlags struct {
	rpc      []string
	contract string
	chainID  uint64
}

func bindChain(flags *pflag.FlagSet) *chainFlags {
	c := &chainFlags{}
	flags.StringArrayVar(&c.rpc, "rpc", nil, "`URL` of a node to ask; may be repeated")
	flags.StringVar(&c.contract, "contract", "", "`address` of the Tangle contract (default: $TANGLE_CONTRACT)")
	flags.Uint64Var(&c.chainID, "chain-id", 0, "refuse nodes of any other `chain`")
	return c
}

func (c *chainFlags) options() []serverless.FetchOption {
	var opts []serverless.FetchOption
	if len(c.rpc) > 0 {
		opts = append(opts, serverless.WithRPC(c.rpc...))
	}
	return append(opts, serverless.WithContract(c.contract), serverless.WithChainID(c.chainID))
}

func (a *app) analyzeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "analyze ID|FILE", Short: "Say which jobs fit which provider, why not, and which provider is the cheapest",
		Long: `Analyzes the jobs for every provider, side by side, and recommends the cheapest one on which every
job fits. It only recommends: deployments use the policy's provider. ID is the number of a blueprint
on chain. FILE is a profiles file, a binary with a profiles file beside it or above its directory, or
metadata as this command prints it with --json.

With --calls-per-month it also estimates the cost of a month at list prices, on each provider and on
a machine that runs all jobs. Memory is at least the policy's. --svg draws the cost over the number
of calls, and where a machine becomes cheaper.`,
		Example: `  tangle-cloud analyze 42 --contract 0x... --rpc https://...
  tangle-cloud analyze target/blueprint-profiles.json
  tangle-cloud analyze target/release/my-blueprint --json
  tangle-cloud analyze target/release/my-blueprint --calls-per-month 1000000 --keep-warm 1
  tangle-cloud analyze target/release/my-blueprint --calls-per-month 1000000 --svg cost.svg`,
		Args: cobra.ExactArgs(1),
	}
	chain := bindChain(cmd.Flags())
	binary := cmd.Flags().String("binary", "", "the blueprint's `executable`, whose profiles file is read")
	costs := bindCost(cmd.Flags())
	cmd.Flags().Uint32Var(&costs.in.KeepWarm, "keep-warm", 0,
		"`instances` of each function that are kept ready, for the estimate, in place of the policy's")
	arch := cmd.Flags().String("arch", "amd64", "`architecture` of the binary, for the estimate: amd64 or arm64")
	svg := cmd.Flags().String("svg", "", "`file` to draw the cost over the number of calls in")
	width := cmd.Flags().Int("svg-width", 760, "`pixels` that the drawing is wide")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if costs.in.Arch = faas.Arch(*arch); costs.in.Arch != faas.AMD64 && costs.in.Arch != faas.ARM64 {
			return usagef("--arch is amd64 or arm64")
		}
		if *width < smallestWide || *width > 4096 {
			return usagef(fmt.Sprintf("--svg-width is %d: it must be from %d to 4096", *width, smallestWide))
		}
		in, err := a.costInput(costs, cmd.Flags().Changed("keep-warm"))
		if err != nil {
			return err
		}
		meta, err := a.metadata(cmd.Context(), args[0], *binary, chain)
		if err != nil {
			return err
		}
		report := analyzeReport{Metadata: meta, Comparison: cost.Compare(meta, in)}
		if *svg != "" {
			if err := drawCosts(*svg, meta, in, *width); err != nil {
				return err
			}
			a.afterwards("drawn in %s", *svg)
		}
		a.warn(meta.Warnings...)
		return a.answer(report, report.print)
	}
	return cmd
}

// metadata reads what the argument of analyze names.
func (a *app) metadata(ctx context.Context, arg, binary string, chain *chainFlags) (*serverless.Metadata, error) {
	if id, err := strconv.ParseUint(arg, 10, 64); err == nil {
		return serverless.FetchMetadata(ctx, id, append(chain.options(), serverless.WithBinary(binary))...)
	}
	text, err := readStart(arg)
	if err != nil {
		return nil, usagef(arg + " is neither the number of a blueprint nor a file that can be read: " + err.Error())
	}
	if !strings.HasPrefix(strings.TrimSpace(string(text)), "{") {
		return serverless.FetchMetadata(ctx, 0, serverless.WithMock(), serverless.WithBinary(arg))
	}
	return decodeMetadata(arg, text)
}

// readStart reads a whole file if it can be JSON, and otherwise its beginning.
func readStart(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 16<<20))
}

// decodeMetadata reads profiles, metadata, or the JSON that analyze prints.
func decodeMetadata(path string, text []byte) (*serverless.Metadata, error) {
	var shape struct {
		Metadata *serverless.Metadata `json:"metadata"`
		Jobs     json.RawMessage      `json:"jobs"`
	}
	if err := json.Unmarshal(text, &shape); err != nil {
		return nil, usagef(path + ": " + err.Error())
	}
	switch {
	case shape.Metadata != nil:
		return shape.Metadata, nil
	case len(shape.Jobs) > 0 && shape.Jobs[0] == '[':
		meta := new(serverless.Metadata)
		if err := json.Unmarshal(text, meta); err != nil {
			return nil, usagef(path + ": " + err.Error())
		}
		return meta, nil
	case len(shape.Jobs) > 0:
		var profiles profile.Set
		if err := json.Unmarshal(text, &profiles); err != nil {
			return nil, usagef(path + ": " + err.Error())
		}
		meta := &serverless.Metadata{Source: serverless.SourceMock, Name: profiles.BlueprintName,
			Warnings: []string{"the jobs are those of " + filepath.Base(path) + " alone: no chain was asked"}}
		for _, id := range slices.Sorted(maps.Keys(profiles.Jobs)) {
			meta.Jobs = append(meta.Jobs, serverless.Job{
				ID: id, Profile: new(profiles.Jobs[id]), ProfileSource: serverless.ProfileFromFile})
		}
		return meta, nil
	}
	return nil, usagef(path + " holds neither profiles nor metadata")
}

type analyzeReport struct {
	Metadata *serverless.Metadata `json:"metadata"`
	*cost.Comparison
}

func (r *analyzeReport) print(w io.Writer) {
	row := func(first string, cell func(a *serverless.Analysis) string) {
		cells := []string{first}
		for _, analysis := range r.Analyses {
			cells = append(cells, cell(analysis))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	row("job", func(a *serverless.Analysis) string { return a.Provider })
	for i, job := range r.Metadata.Jobs {
		row(strings.TrimSpace(fmt.Sprintf("%d %s", job.ID, printable(job.Name))),
			func(a *serverless.Analysis) string { return fits(a.Jobs[i]) })
	}
	row("all jobs", func(a *serverless.Analysis) string { return string(a.Strategy.Kind) })
	if len(r.Analyses) > 0 {
		sizing := r.Analyses[0].Sizing
		fmt.Fprintf(w, "\nA machine for all jobs needs %d MB and %s.\n", sizing.MemoryMB,
			plural(int(sizing.CPUCores), "core"))
	}
	for i, job := range r.Metadata.Jobs {
		r.reasons(w, i, job.ID)
	}
	if r.Costs != nil {
		r.printCosts(w)
	}
	r.printRecommendation(w)
}

// reasons lists why a job does not fit, once for all providers with the same reason.
func (r *analyzeReport) reasons(w io.Writer, i int, id uint32) {
	var order []string
	where := map[string][]string{}
	for _, analysis := range r.Analyses {
		for _, reason := range analysis.Jobs[i].Reasons {
			text := reasonText(reason, "")
			if where[text] == nil {
				order = append(order, text)
			}
			where[text] = append(where[text], analysis.Provider)
		}
	}
	for _, text := range order {
		on := " on " + strings.Join(where[text], ", ")
		if len(where[text]) == len(r.Analyses) {
			on = ""
		}
		fmt.Fprintf(w, "job %d does not fit%s: %s\n", id, on, text)
	}
}

func fits(j serverless.JobAnalysis) string {
	if !j.Compatible {
		return "no"
	}
	if j.Needs == nil {
		return "fits"
	}
	return fmt.Sprintf("%d MB, %d s", j.Needs.MemoryMB, j.Needs.TimeoutSecs)
}

// profilesFile is the file of a binary's profiles, and its present contents.
type profilesFile struct {
	path  string
	older *profile.Set // nil without a file, and with --replace
}

// findProfiles chooses the file for the profiles of a binary, which is the one that deployments
// read: the one beside the binary, unless the directory above already has the binary's profiles, or
// is where builds of cargo have theirs.
func findProfiles(binary, output string, replace bool) (profilesFile, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return profilesFile{}, err
	}
	file, err := faas.InspectBinary(path)
	if err != nil {
		return profilesFile{}, err
	}
	name := strings.TrimSuffix(filepath.Base(path), ".exe")
	own := func(p *profile.Set) bool { return p.BinarySHA256 == file.SHA256 || p.BlueprintName == name }
	foreign := func(p *profile.Set) bool { return p.BinarySHA256 != "" && !own(p) }

	above := serverless.ProfilesPath(path)
	at := cmp.Or(output, filepath.Join(filepath.Dir(path), filepath.Base(above)))
	older, err := profile.Read(at)
	if output == "" && (faas.CodeOf(err) == faas.ErrNotFound || err == nil && foreign(older)) {
		there, aboveErr := profile.Read(above)
		dir := filepath.Dir(path)
		cargo := filepath.Base(filepath.Dir(dir)) == "target" &&
			slices.Contains([]string{"release", "debug"}, filepath.Base(dir))
		if aboveErr == nil && own(there) || cargo && (aboveErr != nil || !foreign(there)) {
			at, older, err = above, there, aboveErr
		}
	}
	switch {
	case replace, faas.CodeOf(err) == faas.ErrNotFound:
		return profilesFile{path: at}, nil
	case err != nil:
		return profilesFile{}, fmt.Errorf("%w: correct it, or begin a new file with --replace", err)
	case foreign(older):
		return profilesFile{}, faas.Errorf(faas.ErrConflict, "profile", "",
			"%s has the profiles of another blueprint, %q: move this binary into a directory of its own, or begin the file "+
				"anew with --replace",
			at, older.BlueprintName)
	}
	return profilesFile{at, older}, nil
}

// merge adds to new profiles what the file has, and reports what it kept.
func (f *profilesFile) merge(p *profile.Set) (kept []uint32, remarks, warnings []string) {
	if f.older == nil {
		return nil, nil, nil
	}
	measured := map[uint32]serverless.JobProfile{}
	for id, job := range p.Jobs {
		measured[id] = job
	}
	kept = p.Merge(f.older)
	var declarations []uint32
	for id, job := range measured {
		if p.Jobs[id] != job {
			declarations = append(declarations, id)
		}
	}
	slices.Sort(declarations)
	if len(kept) > 0 {
		remarks = append(remarks, "kept the profiles of "+jobList(kept)+"; --replace begins the file anew")
	}
	if len(declarations) > 0 {
		remarks = append(remarks, "kept what was declared of "+jobList(declarations)+"; --replace begins the file anew")
	}
	if len(kept) > 0 && f.older.BinarySHA256 != "" && f.older.BinarySHA256 != p.BinarySHA256 {
		warnings = append(warnings, "another build of the binary was measured for "+jobList(kept)+": profile them again")
	}
	return kept, remarks, warnings
}

func jobList(ids []uint32) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatUint(uint64(id), 10)
	}
	if len(ids) == 1 {
		return "job " + texts[0]
	}
	return "jobs " + strings.Join(texts, ", ")
}

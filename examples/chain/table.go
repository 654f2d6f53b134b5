package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	serverless "github.com/tangle-network/blueprint-serverless"
)

// print writes the report as text: what the chain says, a line for each job with a column for each
// provider, and the reasons.
func (r *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	m := r.Metadata
	fmt.Fprintf(w, "blueprint %d  %s\n", m.BlueprintID, printable(m.Name))
	if m.Description != "" {
		fmt.Fprintf(w, "  %s\n", printable(m.Description))
	}
	if c := m.OnChain; c != nil {
		fmt.Fprintf(w, "  contract\t%s on chain id %d, at block %d\n", c.Contract, c.ChainID, c.Block)
		if c.Owner != "" {
			fmt.Fprintf(w, "  owner\t%s\n", c.Owner)
		}
		if c.Active != nil {
			fmt.Fprintf(w, "  active\t%v\n", *c.Active)
		}
	}
	if m.Execution.NeedsTEE() || m.Execution.NeedsGPU() {
		fmt.Fprintf(w, "  demands\tTEE: %v, GPU: %v\n", m.Execution.NeedsTEE(), m.Execution.NeedsGPU())
	}
	if need := m.Requirements; need != (serverless.Resources{}) {
		fmt.Fprintf(w, "  declares\t%d cores, %d MiB memory, %d MiB storage, %d GPUs\n", need.CPUCores, need.MemoryMB,
			need.StorageMB, need.GPUs)
	}
	for _, source := range m.Sources {
		fmt.Fprintf(w, "  source\t%s %s\n", source.Kind, printable(source.Image+source.ArtifactURI))
		for _, binary := range source.Binaries {
			fmt.Fprintf(w, "    binary\t%s/%s %s %s\n", binary.OS, binary.Arch, printable(binary.Name), binary.SHA256)
		}
	}
	if r.Binary != nil {
		fmt.Fprintf(w, "  your binary\t%s\n", r.Binary)
	}
	for _, warning := range m.Warnings {
		fmt.Fprintf(w, "  warning\t%s\n", printable(warning))
	}
	fmt.Fprintln(w)

	row := func(first, second string, cell func(*serverless.Analysis) string) {
		cells := []string{first, second}
		for _, analysis := range r.Analyses {
			cells = append(cells, cell(analysis))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	row("job", "profile", func(a *serverless.Analysis) string { return a.Provider })
	for i, job := range m.Jobs {
		row(fmt.Sprintf("%d %s", job.ID, printable(job.Name)), profile(job),
			func(a *serverless.Analysis) string { return verdict(a.Jobs[i]) })
	}
	row("strategy", "", func(a *serverless.Analysis) string { return string(a.Strategy.Kind) })
	row("VM part", "", func(a *serverless.Analysis) string {
		return fmt.Sprintf("%d MiB, %d cores", a.Sizing.MemoryMB, a.Sizing.CPUCores)
	})
	fmt.Fprintln(w)
	for _, line := range reasons(r) {
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}

func profile(job serverless.Job) string {
	if job.Profile == nil {
		return "none"
	}
	return fmt.Sprintf("p95 %d ms, %d MiB (%s)", job.Profile.P95DurationMS, job.Profile.PeakMemoryMB, job.ProfileSource)
}

func verdict(job serverless.JobAnalysis) string {
	if job.Compatible && job.Needs != nil {
		return fmt.Sprintf("fits: %d MiB, %d s", job.Needs.MemoryMB, job.Needs.TimeoutSecs)
	}
	codes := make([]string, len(job.Reasons))
	for i, reason := range job.Reasons {
		codes[i] = string(reason.Code)
	}
	return strings.Join(codes, ", ")
}

// reasons says why jobs do not fit, each reason once, with the providers that it applies to.
func reasons(r *report) []string {
	type key struct {
		job  uint32
		text string
	}
	var order []key
	providers := map[key][]string{}
	for i := range r.Metadata.Jobs {
		for _, analysis := range r.Analyses {
			for _, reason := range analysis.Jobs[i].Reasons {
				k := key{analysis.Jobs[i].JobID, reason.String()}
				if providers[k] == nil {
					order = append(order, k)
				}
				providers[k] = append(providers[k], analysis.Provider)
			}
		}
	}
	lines := make([]string, len(order))
	for i, k := range order {
		where := strings.Join(providers[k], ", ")
		if len(providers[k]) == len(r.Analyses) {
			where = "any provider"
		}
		lines[i] = fmt.Sprintf("job %d does not fit %s: %s", k.job, where, k.text)
	}
	return lines
}

// printable makes a text from the chain safe to print: a publisher must not control the reader's
// terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

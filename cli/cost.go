package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/cost"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// costFlags are the flags of every command that shows costs.
type costFlags struct {
	in     cost.Input
	prices string
}

func bindCost(flags *pflag.FlagSet) *costFlags {
	c := &costFlags{}
	flags.Uint64Var(&c.in.CallsPerMonth, "calls-per-month", 0,
		"estimate the cost at so many calls of each job in a `month`")
	flags.StringVar(&c.prices, "prices", "", "JSON `file` with prices, in place of those that are built in; see "+
		"\"tangle-cloud prices\"")
	return c
}

// loadPrices reads the file named by --prices. Nil stands for the built-in prices.
func (c *costFlags) loadPrices() (*cost.Prices, error) {
	if c.prices == "" {
		return nil, nil
	}
	return cost.LoadPrices(c.prices)
}

// costInput completes the flags by the policy. If warm is set, a flag says how many instances are
// kept ready, and it applies to every job.
func (a *app) costInput(c *costFlags, warm bool) (cost.Input, error) {
	policy, err := a.loadPolicy()
	if err != nil {
		return c.in, err
	}
	in := c.in
	cfg := policy.Serverless.Config()
	in.DefaultMemoryMB, in.Overrides = cfg.DefaultMemoryMB, cfg.Overrides
	if !warm {
		in.KeepWarm = cfg.KeepWarm
	} else {
		for id, own := range in.Overrides {
			own.KeepWarm = nil
			in.Overrides[id] = own
		}
	}
	in.Prices, err = c.loadPrices()
	return in, err
}

// drawCosts writes the chart to a file.
func drawCosts(path string, meta *serverless.Metadata, in cost.Input, width int) error {
	prices := in.Prices
	if prices == nil {
		prices = cost.DefaultPrices()
	}
	providers := slices.DeleteFunc(faas.KnownNames(), func(name string) bool {
		_, priced := prices.Providers[name]
		return !priced
	})
	c, err := newChart(meta, in, providers, width)
	if err != nil {
		return err
	}
	var picture bytes.Buffer
	if err := c.render(&picture); err != nil {
		return err
	}
	if err := os.WriteFile(path, picture.Bytes(), 0o644); err != nil {
		return faas.Errorf(faas.ErrInvalidArgument, "draw costs", "", "--svg: %w", err)
	}
	return nil
}

// printRecommendation names the cheapest provider and says why.
func (r *analyzeReport) printRecommendation(w io.Writer) {
	fmt.Fprintln(w)
	if r.Recommended == "" {
		fmt.Fprintln(w, "no provider is recommended:")
	} else {
		fmt.Fprintf(w, "cheapest where every job fits: %s\n", r.Recommended)
	}
	for _, reason := range r.Reasons {
		fmt.Fprintln(w, "  "+reason)
	}
}

// printCosts writes a table with a column for each provider and for the machine that could run the
// jobs instead.
func (r *analyzeReport) printCosts(w io.Writer) {
	row := func(first string, cell func(c *cost.Estimate) string) {
		cells := []string{first}
		for _, cost := range r.Costs {
			cells = append(cells, cell(cost))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	fmt.Fprintln(w)
	row("cost a month", func(c *cost.Estimate) string { return c.Provider })
	part := func(name string, amount func(j cost.Job) float64) {
		for _, job := range r.Metadata.Jobs {
			row(fmt.Sprintf("job %d %s", job.ID, name), func(c *cost.Estimate) string {
				for _, j := range c.Jobs {
					if j.JobID == job.ID {
						return money(amount(j), c)
					}
				}
				return "-"
			})
		}
	}
	part("requests", func(j cost.Job) float64 { return j.Requests })
	part("computing", func(j cost.Job) float64 { return j.Compute })
	if r.keepsWarm() {
		part("kept warm", func(j cost.Job) float64 { return j.KeepWarm })
	}
	row("free of that", func(c *cost.Estimate) string { return money(-c.FreeTier, c) })
	row("total", func(c *cost.Estimate) string { return money(c.Total, c) })
	row("a machine for all jobs", func(c *cost.Estimate) string {
		if c.Machine == nil {
			return "none is large enough"
		}
		return c.Machine.Name + " " + money(c.Machine.Total, c)
	})
	row("costs as much at", func(c *cost.Estimate) string {
		if c.BreakEvenCalls == 0 {
			return "-"
		}
		return grouped(c.BreakEvenCalls) + " calls"
	})
	for _, c := range r.Costs {
		fmt.Fprintf(w, "prices of %s: %s, %s%s\n", c.Provider, c.Region, c.AsOf, unverified(c.Unverified))
	}
}

func (r *analyzeReport) keepsWarm() bool {
	for _, c := range r.Costs {
		for _, j := range c.Jobs {
			if j.KeepWarm > 0 {
				return true
			}
		}
	}
	return false
}

// unverified names the prices that do not come from the provider itself.
func unverified(members []string) string {
	if len(members) == 0 {
		return ""
	}
	return ", at second hand: " + strings.Join(members, ", ")
}

// monthly is an estimate as one line of a plan.
func monthly(c *cost.Estimate) string {
	return fmt.Sprintf("about %s a month at list prices of %s (%s)", money(c.Total, c), c.AsOf, c.Region)
}

func money(amount float64, c *cost.Estimate) string {
	return strings.Replace(fmt.Sprintf("%.2f %s", amount, c.Currency), "-0.00 ", "0.00 ", 1)
}

// grouped writes a number with its thousands separated.
func grouped(n uint64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

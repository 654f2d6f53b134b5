package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// estimate adds what a month costs on every provider whose prices are known.
func (a *app) estimate(r *analyzeReport, in serverless.CostInput, pricesFile string) error {
	policy, err := a.loadPolicy()
	if err != nil {
		return err
	}
	in.DefaultMemoryMB = policy.Serverless.DefaultMemoryMB
	if pricesFile != "" {
		if in.Prices, err = serverless.LoadPrices(pricesFile); err != nil {
			return err
		}
	}
	r.Costs = []*serverless.CostEstimate{}
	for _, analysis := range r.Analyses {
		cost, err := serverless.EstimateCost(r.Metadata, analysis.Provider, in)
		if errors.Is(err, faas.ErrUnsupported) {
			continue // nobody sells it
		}
		if err != nil {
			return err
		}
		r.Costs = append(r.Costs, cost)
	}
	return nil
}

// printCosts writes a table with a column for each provider, and the machine that could run the jobs in their place.
func (r *analyzeReport) printCosts(w io.Writer) {
	row := func(first string, cell func(c *serverless.CostEstimate) string) {
		cells := []string{first}
		for _, cost := range r.Costs {
			cells = append(cells, cell(cost))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	fmt.Fprintln(w)
	row("cost a month", func(c *serverless.CostEstimate) string { return c.Provider })
	part := func(name string, amount func(j serverless.JobCost) float64) {
		for _, job := range r.Metadata.Jobs {
			row(fmt.Sprintf("job %d %s", job.ID, name), func(c *serverless.CostEstimate) string {
				for _, j := range c.Jobs {
					if j.JobID == job.ID {
						return money(amount(j), c)
					}
				}
				return "-"
			})
		}
	}
	part("requests", func(j serverless.JobCost) float64 { return j.Requests })
	part("computing", func(j serverless.JobCost) float64 { return j.Compute })
	if r.keepsWarm() {
		part("kept warm", func(j serverless.JobCost) float64 { return j.KeepWarm })
	}
	row("free of that", func(c *serverless.CostEstimate) string { return money(-c.FreeTier, c) })
	row("total", func(c *serverless.CostEstimate) string { return money(c.Total, c) })
	row("a machine for all jobs", func(c *serverless.CostEstimate) string {
		if c.Machine == nil {
			return "none is large enough"
		}
		return c.Machine.Name + " " + money(c.Machine.Total, c)
	})
	row("costs as much at", func(c *serverless.CostEstimate) string {
		if c.BreakEvenCalls == 0 {
			return "-"
		}
		return grouped(c.BreakEvenCalls) + " calls"
	})
	for _, c := range r.Costs {
		fmt.Fprintf(w, "prices of %s: %s, %s\n", c.Provider, c.Region, c.AsOf)
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

func money(amount float64, c *serverless.CostEstimate) string {
	return strings.Replace(fmt.Sprintf("%.2f %s", amount, c.Currency), "-0.00 ", "0.00 ", 1)
}

// grouped writes a number with its thousands apart.
func grouped(n uint64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

//go:build unix

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/platform/internal/load"
)

// turns holds the samples of each contender, one for each round.
type turns map[string][]load.Sample

// takeTurns gives each contender a turn in every round, each time in another order.
func takeTurns(ctx context.Context, contenders []load.Contender, atOnce, rounds int, turn time.Duration) (turns,
	error) {
	t := turns{}
	for i := range rounds {
		for k := range contenders {
			c := contenders[(i+k)%len(contenders)]
			s, err := load.Measure(c.Call, atOnce, turn)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
			t[c.Name] = append(t[c.Name], s)
		}
	}
	return t, nil
}

// median returns the median of a value over all rounds of a contender.
func (t turns) median(name string, value func(*load.Sample) float64) float64 {
	return middle(t.values(name, value))
}

func (t turns) values(name string, value func(*load.Sample) float64) []float64 {
	var list []float64
	for i := range t[name] {
		list = append(list, value(&t[name][i]))
	}
	return list
}

// ratio returns a contender's value divided by another's: the median over the rounds, with the
// lower and the upper quartile.
func (t turns) ratio(name, of string, value func(*load.Sample) float64) string {
	list := t.values(name, value)
	for i, v := range t.values(of, value) {
		list[i] /= v
	}
	return spread(list)
}

func spread(list []float64) string {
	slices.Sort(list)
	return fmt.Sprintf("%.2f (%.2f-%.2f)", middle(list), list[len(list)/4], list[len(list)*3/4])
}

func middle(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

func rate(s *load.Sample) float64    { return s.Rate() }
func latency(s *load.Sample) float64 { return float64(s.Median) / float64(time.Microsecond) }
func cpu(s *load.Sample) float64     { return float64(s.CPUPerCall()) / float64(time.Microsecond) }

func row(cells ...string) { fmt.Println("| " + strings.Join(cells, " | ") + " |") }

func head(cells ...string) {
	fmt.Println()
	row(cells...)
	row(slices.Repeat([]string{"---"}, len(cells))...)
}

// small compares small calls, with each number of calls at a time.
func small(ctx context.Context, f *load.Field, atOnce []int, rounds int, turn time.Duration) error {
	for _, n := range atOnce {
		t, err := takeTurns(ctx, f.Contenders, n, rounds, turn)
		if err != nil {
			return err
		}
		if n == 1 {
			head("1 at a time", "p50, us", "to the empty handler's", "to the pipe's", "calls/s", "to the reverse proxy's",
				"CPU per call, us")
		} else {
			head(fmt.Sprintf("%d at a time", n), "calls/s", "to the empty handler's", "to the reverse proxy's",
				"CPU per call, us")
		}
		for _, c := range f.Contenders {
			calls, used := fmt.Sprintf("%.0f", t.median(c.Name, rate)), fmt.Sprintf("%.1f", t.median(c.Name, cpu))
			if n == 1 {
				row(c.Name, fmt.Sprintf("%.1f", t.median(c.Name, latency)), t.ratio(c.Name, load.Empty, latency),
					t.ratio(c.Name, load.Pipe, latency),
					calls, t.ratio(c.Name, load.Proxy, rate), used)
			} else {
				row(c.Name, calls, t.ratio(c.Name, load.Empty, rate), t.ratio(c.Name, load.Proxy, rate), used)
			}
		}
	}
	return nil
}

// large compares large calls, one at a time.
func large(ctx context.Context, f *load.Field, rounds int, turn time.Duration) error {
	t, err := takeTurns(ctx, f.Large, 1, rounds, turn)
	if err != nil {
		return err
	}
	head("", "p50, ms", "to the pipe's", "to the empty handler's", "CPU per call, ms")
	for _, c := range f.Large {
		row(c.Name, fmt.Sprintf("%.1f", t.median(c.Name, latency)/1e3), t.ratio(c.Name, load.Pipe, latency),
			t.ratio(c.Name, load.Empty, latency), fmt.Sprintf("%.1f", t.median(c.Name, cpu)/1e3))
	}
	return nil
}

// deployments compares a deployment with the least that any deployment must do.
func deployments(ctx context.Context, f *load.Field, rounds int) error {
	head(fmt.Sprintf("a program of %.1f MB", float64(len(f.Program))/1e6), "platform, ms", "by hand, ms", "ratio")
	for _, deflated := range []bool{true, false} {
		var ours, byHand, ratios []float64
		for range rounds {
			pkg, err := f.NewPackage(deflated)
			if err != nil {
				return err
			}
			began := time.Now()
			if err := f.DeployAndCall(ctx, pkg); err != nil {
				return err
			}
			first := time.Since(began)
			began = time.Now()
			end, err := f.ByHand(pkg)
			if err != nil {
				return err
			}
			second := time.Since(began)
			if err := end(); err != nil {
				return err
			}
			ours, byHand = append(ours, float64(first)/1e6), append(byHand, float64(second)/1e6)
			ratios = append(ratios, float64(first)/float64(second))
		}
		row(map[bool]string{true: "deflated", false: "stored"}[deflated], fmt.Sprintf("%.0f", middle(ours)),
			fmt.Sprintf("%.0f", middle(byHand)), spread(ratios))
	}
	return nil
}

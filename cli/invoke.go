package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func (a *app) invokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "invoke JOB", Short: "Run a job, once or many times",
		Long: `Runs a job of a deployed service with the arguments of --text, --hex, --base64, --numbers or --file,
or without arguments. --repeat measures: it prints the answer of the last call, and a summary of how
long the calls took.`,
		Example: `  tangle-cloud invoke --service-id 123 0 --text hello
  tangle-cloud invoke --service-id 123 1 --hex 0500000000000000 --output hex
  tangle-cloud invoke --service-id 123 0 --file request.bin --output raw > answer.bin
  echo hello | tangle-cloud invoke --service-id 123 0 --file -
  tangle-cloud invoke --service-id 123 0 --numbers [1,2,3] --repeat 1000 --parallel 8 --json`,
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	s, input := bindService(flags), bindInput(flags)
	output := flags.String("output", "auto", "`form` of the answer: "+strings.Join(outputForms, ", "))
	repeat := flags.Int("repeat", 1, "how many times to run it")
	parallel := flags.Int("parallel", 1, "how many calls at the same time")
	timeout := flags.Duration("timeout", 0, "time limit of all calls together (default: none but the function's own)")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		job, err := strconv.ParseUint(args[0], 10, 32)
		switch {
		case err != nil:
			return usagef("JOB is the number of a job, not " + strconv.Quote(args[0]))
		case *repeat < 1 || *parallel < 1:
			return usagef("--repeat and --parallel are at least 1")
		case !slices.Contains(outputForms, *output):
			return usagef("--output is one of " + strings.Join(outputForms, ", "))
		}
		arguments, err := input.read(a.in)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if *timeout > 0 {
			limited, cancel := context.WithTimeout(ctx, *timeout)
			defer cancel()
			ctx = limited
		}
		service, err := a.open(ctx, s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeService(ctx, service)) }()
		report, err := invokeMany(ctx, service, uint32(job), arguments, *repeat, *parallel)
		if err != nil {
			return err
		}
		if *output == "raw" && !a.json {
			_, err := a.out.Write(report.Output)
			return err
		}
		return a.answer(report, func(w io.Writer) {
			fmt.Fprintln(w, formatOutput(*output, report.Output))
			a.latencies(report)
		})
	}
	return cmd
}

type invokeReport struct {
	JobID   uint32       `json:"job_id"`
	Output  []byte       `json:"output"`  // of the last call
	Metrics faas.Metrics `json:"metrics"` // of the last call
	Calls   *latencies   `json:"calls,omitempty"`
}

// latencies are those of the calls as this program measured them.
type latencies struct {
	Calls      int           `json:"calls"`
	ColdStarts int           `json:"cold_starts"`
	Min        time.Duration `json:"min_ns"`
	P50        time.Duration `json:"p50_ns"`
	P95        time.Duration `json:"p95_ns"`
	P99        time.Duration `json:"p99_ns"`
	Max        time.Duration `json:"max_ns"`
	PerSecond  float64       `json:"per_second"`
}

// invokeMany makes the calls and stops at the first that fails.
func invokeMany(ctx context.Context, service *serverless.Service, job uint32, args []byte, repeat,
	parallel int) (*invokeReport, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([]time.Duration, repeat)
	var next, cold atomic.Int64
	var last atomic.Pointer[faas.Result]
	var wg sync.WaitGroup
	start := time.Now()
	for range min(parallel, repeat) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(repeat) || ctx.Err() != nil {
					return
				}
				began := time.Now()
				result, err := service.Invoke(ctx, job, args)
				if err != nil {
					cancel(err) // the first counts
					return
				}
				took[i] = time.Since(began)
				if result.Metrics.ColdStart {
					cold.Add(1)
				}
				last.Store(result)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	result := last.Load()
	report := &invokeReport{JobID: job, Output: result.Output, Metrics: result.Metrics}
	if repeat > 1 {
		slices.Sort(took)
		rank := func(percent int) time.Duration { return took[(repeat*percent+99)/100-1] } // nearest rank
		report.Calls = &latencies{
			Calls: repeat, ColdStarts: int(cold.Load()), Min: took[0], P50: rank(50), P95: rank(95), P99: rank(99),
			Max:       took[repeat-1],
			PerSecond: float64(repeat) / elapsed.Seconds(),
		}
	}
	return report, nil
}

// latencies says how long the calls took.
func (a *app) latencies(r *invokeReport) {
	c := r.Calls
	if c == nil {
		start := ""
		if r.Metrics.ColdStart {
			start = ", cold start"
		}
		a.afterwards("took %s%s", round(r.Metrics.Total), start)
		return
	}
	a.afterwards("%d calls: min %s, p50 %s, p95 %s, p99 %s, max %s; %d cold starts; %.0f calls a second",
		c.Calls, round(c.Min), round(c.P50), round(c.P95), round(c.P99), round(c.Max), c.ColdStarts, c.PerSecond)
}

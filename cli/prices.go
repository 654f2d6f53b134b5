package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tangle-network/blueprint-serverless/cost"
	"github.com/tangle-network/blueprint-serverless/cost/refresh"
)

func (a *app) pricesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "prices", Short: "Show the prices that costs are estimated with, and refresh them",
		Long: `Shows the list prices of estimates: the built-in ones, or those of --prices.

With --refresh it reads what the providers publish today in the same regions, reports what changed
and what it could not find, and with --save writes a file for --prices. Without --refresh it makes no
request. AWS and Azure publish their lists to everybody; Google's catalog needs an API key in
GOOGLE_API_KEY. --machines also reads the list of Amazon EC2, which has some hundred megabytes.`,
		Example: `  tangle-cloud prices
  tangle-cloud prices --refresh --save prices.json
  tangle-cloud prices --refresh --of aws-lambda --machines --save prices.json
  tangle-cloud analyze target/release/my-blueprint --calls-per-month 1000000 --prices prices.json`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	fresh := flags.Bool("refresh", false, "read what the providers publish today")
	of := flags.StringArray("of", nil, "`provider` to refresh; may be repeated (default: all that publish a list)")
	machines := flags.Bool("machines", false, "refresh the prices of machines, too")
	limit := flags.Duration("timeout", 10*time.Minute, "time limit of the refresh")
	save := flags.String("save", "", "`file` to save the prices in")
	file := flags.String("prices", "", "JSON `file` with prices, in place of those that are built in")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !*fresh && (len(*of) > 0 || *machines) {
			return usagef("--of and --machines say what to refresh: add --refresh")
		}
		var report pricesReport
		report.Prices = cost.DefaultPrices()
		var err error
		if *file != "" {
			if report.Prices, err = cost.LoadPrices(*file); err != nil {
				return err
			}
		}
		if *fresh {
			ctx, cancel := context.WithTimeout(cmd.Context(), *limit)
			defer cancel()
			opts := []refresh.Option{refresh.WithClient(&http.Client{Transport: a.transport}),
				refresh.WithGoogleAPIKey(os.Getenv("GOOGLE_API_KEY"))}
			if len(*of) > 0 {
				opts = append(opts, refresh.WithProviders(*of...))
			}
			if *machines {
				opts = append(opts, refresh.WithMachines())
			}
			if report.Prices, report.Changes, err = refresh.Prices(ctx, report.Prices, opts...); err != nil {
				return err
			}
		}
		if *save != "" {
			if err := report.Prices.WriteFile(*save); err != nil {
				return err
			}
			a.afterwards("saved in %s", *save)
		}
		return a.answer(report, report.print)
	}
	return cmd
}

type pricesReport struct {
	Prices *cost.Prices `json:"prices"`
	// Changes are what a refresh replaced, and what it kept and why.
	Changes []refresh.Change `json:"changes,omitempty"`
}

func (r *pricesReport) print(w io.Writer) {
	fmt.Fprintln(w, "provider\tregion\tas of\tmillion requests\tGB-second\tvCPU-second\tkept warm, GB-second\tfree")
	names := slices.Sorted(maps.Keys(r.Prices.Providers))
	for _, name := range names {
		p := r.Prices.Providers[name]
		free := fmt.Sprintf("%s requests, %s GB-s", count(p.FreeRequests), count(p.FreeGBSeconds))
		if p.FreeVCPUSeconds > 0 {
			free += fmt.Sprintf(", %s vCPU-s", count(p.FreeVCPUSeconds))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(name), printable(p.Region), printable(p.AsOf),
			price(p.PerMillionRequests), price(firstTier(p)), price(p.VCPUSecond), price(p.IdleGBSecond), free)
	}
	m := r.Prices.Machines
	fmt.Fprintf(w, "\nmachine\tregion\tas of\tan hour\n")
	for _, size := range m.Sizes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(size.Name), printable(m.Region), printable(m.AsOf), price(size.Hour))
	}
	fmt.Fprintf(w, "an IPv4 address\t%s\t%s\t%s\n\nin %s; at second hand:", printable(m.Region), printable(m.AsOf),
		price(m.AddressHour), printable(r.Prices.Currency))
	unsure := []string{}
	for _, name := range names {
		if u := r.Prices.Providers[name].Unverified; len(u) > 0 {
			unsure = append(unsure, name+" "+strings.Join(u, ", "))
		}
	}
	if len(m.Unverified) > 0 {
		unsure = append(unsure, "machines "+strings.Join(m.Unverified, ", "))
	}
	if len(unsure) == 0 {
		unsure = []string{"none"}
	}
	fmt.Fprintln(w, " "+printable(strings.Join(unsure, "; ")))
	for _, c := range r.Changes {
		if c.Kept != "" {
			fmt.Fprintf(w, "kept: %s: %s\n", printable(c.Price), printable(c.Kept))
		} else {
			fmt.Fprintf(w, "changed: %s: %s -> %s\n", printable(c.Price), price(c.Old), price(c.New))
		}
	}
}

func firstTier(p cost.ProviderPrices) float64 {
	if len(p.GBSecond) == 0 {
		return 0
	}
	return p.GBSecond[0].Price
}

func price(x float64) string {
	if x == 0 {
		return "-"
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

func count(x float64) string { return grouped(uint64(x)) }

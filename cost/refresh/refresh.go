// Package refresh reads the prices that AWS, Google and Azure publish, for estimates by package
// cost.
package refresh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/cost"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// Change is a price that [Prices] replaced, or one that it kept and why.
type Change struct {
	// Price is the path of the price in a price file, such as
	// "providers.aws-lambda.gb_second[1].price", or of everything that could not be read, such as
	// "machines".
	Price string  `json:"price"`
	Old   float64 `json:"old"`
	New   float64 `json:"new"`
	// Kept says why the old price stays. It is empty if the price was replaced.
	Kept string `json:"kept,omitempty"`
}

// Option configures [Prices].
type Option func(*run)

// run is one call of Prices.
type run struct {
	client    *http.Client
	googleKey string
	hide      *sanitize.Cleaner // of the key in what the lists say
	providers []string          // nil: all with a price list
	machines  bool
	currency  string
	changes   []Change
	answered  bool // some list could be read
}

// WithClient sets the client that reads the lists. The default is [http.DefaultClient]. Prices does
// not modify the client, and never follows a redirect to another host.
func WithClient(c *http.Client) Option {
	return func(r *run) { r.client = c }
}

// WithGoogleAPIKey sets the key that reading Google's catalog requires:
// https://cloud.google.com/billing/v1/how-tos/catalog-api. It is sent to that catalog only, in a
// header.
func WithGoogleAPIKey(key string) Option {
	return func(r *run) { r.googleKey = key }
}

// WithProviders refreshes only the providers with these registered names.
func WithProviders(providers ...string) Option {
	return func(r *run) { r.providers = append([]string{}, providers...) }
}

// WithMachines refreshes the prices of machines, too. That reads some hundred megabytes, because
// Amazon EC2 has one list for everything in a region.
func WithMachines() Option {
	return func(r *run) { r.machines = true }
}

// maxKept bounds the reason for a kept price, in bytes, because it contains untrusted text.
const maxKept = 1000

// priceList is what a provider publishes.
type priceList struct {
	// members are the prices that the list can contain.
	members []string
	// read updates p with the prices that it finds. It returns the members that it did not find, with
	// the reasons, and the source of the list.
	read func(ctx context.Context, r *run, p *cost.ProviderPrices) (notFound map[string]string, source string, err error)
}

var priceLists = map[string]priceList{
	faas.AWSLambda:      {slices.Sorted(maps.Values(awsLambdaGroups)), awsLambdaPrices},
	faas.GCPFunctions:   {googleMembers, googlePrices},
	faas.AzureFunctions: {slices.Sorted(maps.Values(azureMeters)), azurePrices},
}

// Prices reads the current list prices for what old contains, in the same regions and currency,
// from the AWS Price List, the Google Cloud Billing Catalog and the Azure Retail Prices API. If old
// is nil, it is [cost.DefaultPrices]. The result is a copy with new sources and dates, to be used
// or saved with [cost.Prices.WriteFile]; old is not changed.
//
// A price that is not found or not understood stays as it was, and the changes say why. The lists
// do not contain everything: the free tier on AWS, the least billed duration, and the processors
// that come with memory stay as they were, too. The lists are untrusted: they are read as streams,
// within limits, and nothing is taken over that would make an invalid price file. ctx bounds the
// time.
//
// The error is that of ctx, ErrInvalidArgument for a provider that publishes no list or has no
// price in old, or ErrUnavailable if no list could be read; the changes then say why.
func Prices(ctx context.Context, old *cost.Prices, opts ...Option) (*cost.Prices, []Change, error) {
	const op = "refresh prices"
	r := &run{}
	for _, opt := range opts {
		if opt != nil {
			opt(r)
		}
	}
	if r.client == nil {
		r.client = http.DefaultClient
	}
	if old == nil {
		old = cost.DefaultPrices()
	}
	next := old.Clone()
	r.currency = next.Currency
	names := r.providers
	if names == nil {
		names = slices.DeleteFunc(slices.Sorted(maps.Keys(next.Providers)),
			func(name string) bool { return priceLists[name].read == nil })
	}
	for _, name := range names {
		if _, ok := next.Providers[name]; !ok || priceLists[name].read == nil {
			return nil, nil, faas.Errorf(faas.ErrInvalidArgument, op, "",
				"%q has no price to refresh, or publishes no list (such are: %s)", name,
				strings.Join(slices.Sorted(maps.Keys(priceLists)), ", "))
		}
	}
	client := *r.client
	client.Transport = httputil.Guard(client.Transport)
	client.CheckRedirect = sameHost
	r.client, r.hide = &client, sanitize.NewCleaner(r.googleKey)
	for _, name := range names {
		next.Providers[name] = r.provider(ctx, name, next.Providers[name])
	}
	if r.machines {
		next.Machines = r.machinePrices(ctx, next.Machines)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, faas.Errorf(faas.ErrTimeout, op, "", "%w", context.Cause(ctx))
	}
	if !r.answered && len(r.changes) > 0 {
		return next, r.changes, faas.Errorf(faas.ErrUnavailable, op, "", "no price list could be read: %s: %s",
			r.changes[0].Price, r.changes[0].Kept)
	}
	return next, r.changes, nil
}

// provider refreshes one provider's prices, or records why it cannot.
func (r *run) provider(ctx context.Context, name string, old cost.ProviderPrices) cost.ProviderPrices {
	at := "providers." + name
	next := old.Clone()
	notFound, source, err := priceLists[name].read(ctx, r, &next)
	if err == nil {
		err = next.Validate()
	}
	if err != nil {
		r.keep(at, 0, strings.TrimPrefix(err.Error(), "faas: "))
		return old
	}
	r.answered = true
	for _, member := range slices.Sorted(maps.Keys(notFound)) {
		was := 0.0
		for _, m := range membersOf(old) {
			if m.name == member || strings.HasPrefix(m.name, member+"[0].price") {
				was = m.value
			}
		}
		r.keep(at+"."+member, was, notFound[member])
	}
	r.compare(at, membersOf(old), membersOf(next))
	describe(&next, source, priceLists[name].members, notFound)
	return next
}

// describe records the source of the prices that were just read.
func describe(p *cost.ProviderPrices, source string, members []string, notFound map[string]string) {
	p.AsOf = time.Now().UTC().Format(time.DateOnly)
	if len(notFound) > 0 {
		source += "; what is not in it: " + p.Source
	}
	p.Source = source
	p.Unverified = slices.DeleteFunc(p.Unverified, func(member string) bool {
		name, _, _ := strings.Cut(member, "[")
		_, kept := notFound[name]
		return slices.Contains(members, name) && !kept
	})
	if len(p.Unverified) == 0 {
		p.Unverified = nil // as a file says it
	}
}

func (r *run) keep(price string, old float64, why string) {
	r.changes = append(r.changes, Change{Price: price, Old: old, New: old, Kept: r.hide.Line(why, maxKept)})
}

// compare records the differences.
func (r *run) compare(at string, old, next []priceMember) {
	was := map[string]float64{}
	for _, m := range old {
		was[m.name] = m.value
	}
	for _, m := range next {
		if was[m.name] != m.value {
			r.changes = append(r.changes, Change{Price: at + "." + m.name, Old: was[m.name], New: m.value})
		}
		delete(was, m.name)
	}
	for _, name := range slices.Sorted(maps.Keys(was)) { // a tier that is not there any more
		r.changes = append(r.changes, Change{Price: at + "." + name, Old: was[name]})
	}
}

// priceMember is a number in a price file.
type priceMember struct {
	name  string
	value float64
}

// membersOf returns the numbers that a price list may change.
func membersOf(p cost.ProviderPrices) []priceMember {
	out := []priceMember{{"per_million_requests", p.PerMillionRequests}}
	tiers := func(name string, tiers []cost.Tier) {
		for i, t := range tiers {
			if t.UpTo > 0 {
				out = append(out, priceMember{fmt.Sprintf("%s[%d].up_to", name, i), t.UpTo})
			}
			out = append(out, priceMember{fmt.Sprintf("%s[%d].price", name, i), t.Price})
		}
	}
	tiers("gb_second", p.GBSecond)
	tiers("gb_second_arm64", p.GBSecondARM64)
	return append(out,
		priceMember{"vcpu_second", p.VCPUSecond}, priceMember{"free_requests", p.FreeRequests},
		priceMember{"free_gb_seconds", p.FreeGBSeconds},
		priceMember{"free_vcpu_seconds", p.FreeVCPUSeconds}, priceMember{"idle_gb_second", p.IdleGBSecond},
		priceMember{"idle_gb_second_arm64", p.IdleGBSecondARM64},
		priceMember{"idle_vcpu_second", p.IdleVCPUSecond}, priceMember{"warm_gb_second", p.WarmGBSecond},
		priceMember{"warm_gb_second_arm64", p.WarmGBSecondARM64},
	)
}

// sameHost refuses redirects to another host, which would see what is meant for this one.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return errors.New("too many redirects")
	}
	if first := via[0].URL; req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		return fmt.Errorf("redirects to another host, %s", req.URL.Host)
	}
	return nil
}

package refresh

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/cost"
)

// The AWS Price List has one file for each service and region. Its format:
// https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-the-aws-price-list-bulk-api.html
// and, in the same place, reading-service-price-list-file-for-services.html.
const awsPriceList = "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/%s/current/%s/index.json"

// maxEC2List bounds the list of everything that Amazon EC2 sells in a region.
const maxEC2List = 2 << 30

// awsProduct is the part of a product that identifies it.
type awsProduct struct {
	SKU        string `json:"sku"`
	Attributes struct {
		Group           string `json:"group"`
		UsageType       string `json:"usagetype"`
		Location        string `json:"location"`
		InstanceType    string `json:"instanceType"`
		OperatingSystem string `json:"operatingSystem"`
		Operation       string `json:"operation"`
	} `json:"attributes"`
}

// awsTerms are the terms of a product, by offer and then by rate.
type awsTerms map[string]struct {
	PriceDimensions map[string]struct {
		Unit         string            `json:"unit"`
		BeginRange   string            `json:"beginRange"`
		PricePerUnit map[string]string `json:"pricePerUnit"`
	} `json:"priceDimensions"`
}

// awsPrices reads a price list as a stream: products first, then their terms. which returns the
// name that the caller uses for a product, or "" for one it does not want. If two products get the
// same name, neither counts unless their prices are equal.
func (r *run) awsPrices(ctx context.Context, service, region string, most int64,
	which func(awsProduct) string) (found map[string][]listed, source string, err error) {
	if err := regionName(region); err != nil {
		return nil, "", err
	}
	source = fmt.Sprintf(awsPriceList, service, region)
	list, err := r.fetch(ctx, source, nil, most)
	if err != nil {
		return nil, "", err
	}
	defer list.close()
	wanted := map[string]string{} // by SKU
	found = map[string][]listed{}
	twice := map[string]bool{}
	products := false
	var other json.RawMessage
	take := func(sku string) error {
		what := wanted[sku]
		if what == "" {
			return list.read(&other) // which is faster than to look at every token of it
		}
		var terms awsTerms
		if err := list.read(&terms); err != nil {
			return err
		}
		rows, err := terms.rows(r.currency)
		if err != nil {
			return fmt.Errorf("SKU %s: %w", brief(sku), err)
		}
		if before, ok := found[what]; ok && !slices.Equal(before, rows) {
			twice[what] = true
		}
		found[what] = rows
		return nil
	}
	err = list.object(func(name string) error {
		switch name {
		case "products":
			products = true
			return list.object(func(string) error {
				var p awsProduct
				if err := list.read(&p); err != nil {
					return err
				}
				if what := which(p); what != "" {
					wanted[p.SKU] = what
				}
				if len(wanted) > maxPriceRows {
					return errRows
				}
				return nil
			})
		case "terms":
			if !products {
				return errors.New("the terms come before the products")
			}
			return list.object(func(kind string) error {
				if kind != "OnDemand" {
					return list.skip()
				}
				if err := list.object(take); err != nil {
					return err
				}
				return errRead // what follows is for those who commit themselves, and larger than all before
			})
		}
		return list.skip()
	})
	if err != nil && !errors.Is(err, errRead) {
		return nil, "", fmt.Errorf("%s: %w", source, err)
	}
	for what := range twice {
		delete(found, what)
	}
	return found, source, nil
}

// rows returns the tiers of the only offer.
func (t awsTerms) rows(currency string) ([]listed, error) {
	var rows []listed
	for _, offer := range t {
		for _, dimension := range offer.PriceDimensions {
			text, ok := dimension.PricePerUnit[currency]
			if !ok {
				continue
			}
			price, err := strconv.ParseFloat(text, 64)
			from, err2 := strconv.ParseFloat(cmp.Or(dimension.BeginRange, "0"), 64)
			if err := errors.Join(err, err2); err != nil || math.IsNaN(from) {
				return nil, errors.New("has no numbers for a price and its range")
			}
			rows = append(rows, listed{from, price, dimension.Unit})
		}
	}
	slices.SortFunc(rows, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.price, b.price), strings.Compare(a.unit, b.unit))
	})
	return rows, nil
}

// The products of AWS Lambda by group. Unlike the usage type, the group has no regional prefix.
var awsLambdaGroups = map[string]string{
	"AWS-Lambda-Requests": "per_million_requests", "AWS-Lambda-Duration": "gb_second",
	"AWS-Lambda-Duration-ARM":                "gb_second_arm64",
	"AWS-Lambda-Provisioned-Concurrency":     "idle_gb_second",
	"AWS-Lambda-Provisioned-Concurrency-ARM": "idle_gb_second_arm64",
	"AWS-Lambda-Duration-Provisioned":        "warm_gb_second",
	"AWS-Lambda-Duration-Provisioned-ARM":    "warm_gb_second_arm64",
}

func awsLambdaPrices(ctx context.Context, r *run, p *cost.ProviderPrices) (notFound map[string]string, source string,
	err error) {
	found, source, err := r.awsPrices(ctx, "AWSLambda", p.Region, maxPriceList, func(product awsProduct) string {
		if product.Attributes.Location == "Any" { // what is free, as a product
			return ""
		}
		return awsLambdaGroups[product.Attributes.Group]
	})
	if err != nil {
		return nil, "", err
	}
	notFound = map[string]string{}
	for _, member := range awsLambdaGroups {
		units := []string{"lambda-gb-second", "gb-seconds", "gb-second"}
		if member == "per_million_requests" {
			units = []string{"request", "requests"}
		}
		if err := take(p, member, found[member], oneOf(units...)); err != nil {
			notFound[member] = err.Error()
		}
	}
	return notFound, source, nil
}

// oneOf accepts several names of the unit that prices are counted in.
func oneOf(units ...string) func(string) float64 {
	return func(unit string) float64 {
		if slices.Contains(units, strings.ToLower(unit)) {
			return 1
		}
		return 0
	}
}

// machinePrices refreshes the prices of the sizes, by name, and of the address.
func (r *run) machinePrices(ctx context.Context, old cost.MachinePrices) cost.MachinePrices {
	next := old
	next.Sizes = slices.Clone(old.Sizes)
	const address = "address"
	addresses, source, err := r.awsPrices(ctx, "AmazonVPC", old.Region, maxPriceList, func(p awsProduct) string {
		if unprefixed(p.Attributes.UsageType) == "PublicIPv4:InUseAddress" {
			return address
		}
		return ""
	})
	kept := []string{}
	var sources []string
	note := func(member string, was float64, now *float64, rows []listed, err error) {
		var tiers []cost.Tier
		if err == nil {
			tiers, _, err = tiersOf(rows, oneOf("hrs", "hours", "hour"))
		}
		if err != nil {
			kept = append(kept, member)
			r.keep("machines."+member, was, strings.TrimPrefix(err.Error(), "faas: "))
			return
		}
		if *now = tiers[0].Price; *now != was {
			r.changes = append(r.changes, Change{Price: "machines." + member, Old: was, New: *now})
		}
	}
	if err == nil {
		sources, r.answered = append(sources, source), true
	}
	note("address_hour", old.AddressHour, &next.AddressHour, addresses[address], err)

	named := map[string]bool{}
	for _, size := range old.Sizes {
		named[size.Name] = true
	}
	sizes, source, err := r.awsPrices(ctx, "AmazonEC2", old.Region, maxEC2List, func(p awsProduct) string {
		a := p.Attributes
		if named[a.InstanceType] && unprefixed(a.UsageType) == "BoxUsage:"+a.InstanceType && a.OperatingSystem == "Linux" &&
			a.Operation == "RunInstances" {
			return a.InstanceType
		}
		return ""
	})
	if err == nil {
		sources, r.answered = append(sources, source), true
	}
	for i, size := range old.Sizes {
		note(fmt.Sprintf("sizes[%d].hour", i), size.Hour, &next.Sizes[i].Hour, sizes[size.Name], err)
	}
	if len(sources) == 0 {
		return old
	}
	next.AsOf, next.Source, next.Unverified = time.Now().UTC().Format(time.DateOnly), strings.Join(sources, " and "), nil
	if len(kept) > 0 {
		next.Source += "; what is not in it: " + old.Source
	}
	for _, member := range kept { // what was not sure before, still is not
		name, _, _ := strings.Cut(member, "[")
		if slices.Contains(old.Unverified, member) || slices.Contains(old.Unverified, name) {
			next.Unverified = append(next.Unverified, member)
		}
	}
	// the cheapest first
	slices.SortStableFunc(next.Sizes, func(a, b cost.MachinePrice) int { return cmp.Compare(a.Hour, b.Hour) })
	return next
}

// unprefixed removes the region from a usage type. Outside us-east-1, types have a prefix, as in
// EUC1-BoxUsage:t4g.nano.
func unprefixed(usage string) string {
	if before, after, ok := strings.Cut(usage, "-"); ok && len(before) <= 5 && strings.ToUpper(before) == before {
		return after
	}
	return usage
}

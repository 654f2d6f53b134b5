package refresh

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/cost"
)

// The Cloud Billing Catalog API, v1:
// https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list.
const googleCatalog = "https://cloudbilling.googleapis.com/v1/services/%s/skus"

// The services that Google bills functions as: Cloud Run Functions, then Cloud Run. The first that
// has a price counts.
var googleServices = []string{"29E7-DA93-CA13", "152E-C115-5142"}

var googleMembers = []string{"per_million_requests", "gb_second", "vcpu_second", "idle_gb_second", "idle_vcpu_second"}

// googleSKUs are the descriptions of what functions are billed for, as [plainSKU] simplifies them.
// A catalog has no other name for a SKU that is the same in all regions.
var googleSKUs = map[string]string{
	"cloud run functions invocations": "per_million_requests", "requests": "per_million_requests",
	"cloud run functions cpu (request based billing)":                 "vcpu_second",
	"services cpu (request based billing)":                            "vcpu_second",
	"cloud run functions memory (request based billing)":              "gb_second",
	"services memory (request based billing)":                         "gb_second",
	"cloud run functions min instance cpu (request based billing)":    "idle_vcpu_second",
	"services min instance cpu (request based billing)":               "idle_vcpu_second",
	"cloud run functions min instance memory (request based billing)": "idle_gb_second",
	"services min instance memory (request based billing)":            "idle_gb_second",
}

// googleUnits tells how many of our units a usage unit holds.
var googleUnits = map[string]map[string]float64{
	"per_million_requests": {"count": 1, "1": 1},
	"vcpu_second":          {"s": 1, "min": 60, "h": 3600},
	"gb_second":            {"GiBy.s": 1, "GiBy.min": 60, "GiBy.h": 3600},
}

type googleSKU struct {
	Description string `json:"description"`
	Category    struct {
		UsageType string `json:"usageType"`
	} `json:"category"`
	ServiceRegions []string `json:"serviceRegions"`
	PricingInfo    []struct {
		PricingExpression struct {
			UsageUnit   string `json:"usageUnit"`
			TieredRates []struct {
				StartUsageAmount float64 `json:"startUsageAmount"`
				UnitPrice        struct {
					CurrencyCode string `json:"currencyCode"`
					Units        string `json:"units"`
					Nanos        int64  `json:"nanos"`
				} `json:"unitPrice"`
			} `json:"tieredRates"`
		} `json:"pricingExpression"`
	} `json:"pricingInfo"`
}

func googlePrices(ctx context.Context, r *run, p *cost.ProviderPrices) (notFound map[string]string, source string,
	err error) {
	if r.googleKey == "" {
		return nil, "", errors.New("the catalog of Google needs an API key: see WithGoogleAPIKey")
	}
	if err := regionName(p.Region); err != nil {
		return nil, "", err
	}
	notFound = map[string]string{}
	for _, member := range googleMembers {
		notFound[member] = "is not in the catalog"
	}
	var sources []string
	for _, service := range googleServices {
		list := fmt.Sprintf(googleCatalog, service)
		found, err := r.googleList(ctx, list, p.Region)
		if err != nil {
			return nil, "", err
		}
		used := false
		for _, member := range googleMembers {
			rows, ok := found[member]
			if _, missing := notFound[member]; !ok || !missing {
				continue
			}
			units := googleUnits[strings.TrimPrefix(member, "idle_")]
			if err := take(p, member, rows, func(unit string) float64 { return units[unit] }); err != nil {
				notFound[member] = err.Error()
				continue
			}
			delete(notFound, member)
			used = true
		}
		if used {
			sources = append(sources, list)
		}
		if len(notFound) == 0 {
			break
		}
	}
	if len(sources) == 0 {
		return nil, "", fmt.Errorf("the catalog has no prices of functions in %s", p.Region)
	}
	return notFound, strings.Join(sources, " and ") + ", in " + p.Region, nil
}

// googleList reads all pages of a service. A price that occurs twice with different values gets no
// rows.
func (r *run) googleList(ctx context.Context, list, region string) (map[string][]listed, error) {
	found := map[string][]listed{}
	token := ""
	for range maxPricePages {
		query := url.Values{"currencyCode": {r.currency}, "pageSize": {"5000"}}
		if token != "" {
			query.Set("pageToken", token)
		}
		page, err := r.fetch(ctx, list+"?"+query.Encode(), http.Header{"X-Goog-Api-Key": {r.googleKey}}, maxPriceList)
		if err != nil {
			return nil, err
		}
		token = ""
		err = page.object(func(name string) error {
			switch name {
			case "skus":
				return page.array(func() error {
					var sku googleSKU
					if err := page.read(&sku); err != nil {
						return err
					}
					member := googleSKUs[plainSKU(sku.Description, region)]
					if member == "" || sku.Category.UsageType != "OnDemand" || !slices.Contains(sku.ServiceRegions, region) &&
						!slices.Contains(sku.ServiceRegions, "global") {
						return nil
					}
					rows := sku.rows(r.currency)
					if before, ok := found[member]; ok && !slices.Equal(before, rows) {
						rows = nil
					}
					found[member] = rows
					return nil
				})
			case "nextPageToken":
				return page.read(&token)
			}
			return page.skip()
		})
		_ = page.close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list, err)
		}
		if token == "" {
			return found, nil
		}
	}
	return nil, fmt.Errorf("%s has more than %d pages", list, maxPricePages)
}

// rows returns the tiers that are in effect now, or none if they have no amount in the currency.
func (s *googleSKU) rows(currency string) []listed {
	if len(s.PricingInfo) == 0 {
		return nil
	}
	now := s.PricingInfo[0].PricingExpression // without a time in the request, only what holds now is listed
	var rows []listed
	for _, rate := range now.TieredRates {
		units := 0.0
		if rate.UnitPrice.Units != "" {
			var err error
			if units, err = strconv.ParseFloat(rate.UnitPrice.Units, 64); err != nil {
				return nil
			}
		}
		if rate.UnitPrice.CurrencyCode != currency {
			return nil
		}
		rows = append(rows, listed{rate.StartUsageAmount, units + float64(rate.UnitPrice.Nanos)/1e9, now.UsageUnit})
	}
	return rows
}

// plainSKU removes from a description what differs between regions: their name and their tier.
func plainSKU(description, region string) string {
	text := strings.ToLower(description)
	text = strings.TrimSuffix(text, " in "+region)
	text = strings.ReplaceAll(text, "tier 2", "")
	text = strings.ReplaceAll(text, "-", " ")
	return strings.Join(strings.Fields(text), " ")
}

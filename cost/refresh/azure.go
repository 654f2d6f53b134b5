package refresh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/cost"
)

// The Azure Retail Prices API:
// https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices.
const azureRetailPrices = "https://prices.azure.com/api/retail/prices"

// The meters of the Flex Consumption plan:
// https://learn.microsoft.com/azure/azure-functions/functions-consumption-costs.
var azureMeters = map[string]string{
	"On Demand Total Executions": "per_million_requests", "On Demand Execution Time": "gb_second",
	"Always Ready Baseline": "idle_gb_second", "Always Ready Execution Time": "warm_gb_second",
}

type azureItem struct {
	CurrencyCode     string  `json:"currencyCode"`
	TierMinimumUnits float64 `json:"tierMinimumUnits"`
	RetailPrice      float64 `json:"retailPrice"`
	ArmRegionName    string  `json:"armRegionName"`
	ProductName      string  `json:"productName"`
	MeterName        string  `json:"meterName"`
	UnitOfMeasure    string  `json:"unitOfMeasure"`
	Type             string  `json:"type"`
}

func azurePrices(ctx context.Context, r *run, p *cost.ProviderPrices) (notFound map[string]string, source string,
	err error) {
	if err := regionName(p.Region); err != nil {
		return nil, "", err
	}
	query := url.Values{
		"api-version": {"2023-01-01-preview"}, "currencyCode": {"'" + r.currency + "'"},
		"$filter": {"serviceName eq 'Functions' and armRegionName eq '" + p.Region + "' and priceType eq 'Consumption'"},
	}
	found, err := r.azureList(ctx, azureRetailPrices+"?"+query.Encode(), p.Region)
	if err != nil {
		return nil, "", err
	}
	notFound = map[string]string{}
	for _, member := range azureMeters {
		rows := found[member]
		slices.SortFunc(rows, func(a, b listed) int { return cmp.Compare(a.from, b.from) })
		unit := "GB Second"
		if member == "per_million_requests" {
			unit = "" // a bare number
		}
		if err := take(p, member, rows, func(text string) float64 { return azureUnit(text, unit) }); err != nil {
			notFound[member] = err.Error()
		}
	}
	if len(notFound) == len(azureMeters) {
		return nil, "", fmt.Errorf("%s has no prices of Flex Consumption in %s", azureRetailPrices, p.Region)
	}
	return notFound, azureRetailPrices + ", Flex Consumption in " + p.Region, nil
}

// azureList reads all pages, because the tiers of a meter may be spread over several.
func (r *run) azureList(ctx context.Context, next, region string) (map[string][]listed, error) {
	found := map[string][]listed{}
	for range maxPricePages {
		page, err := r.fetch(ctx, next, nil, maxPriceList)
		if err != nil {
			return nil, err
		}
		link := ""
		err = page.object(func(name string) error {
			switch name {
			case "Items":
				return page.array(func() error {
					var item azureItem
					if err := page.read(&item); err != nil {
						return err
					}
					member := azureMeters[item.MeterName]
					if member == "" || item.ProductName != "Flex Consumption" || item.ArmRegionName != region ||
						item.Type != "Consumption" || item.CurrencyCode != r.currency {
						return nil
					}
					row := listed{item.TierMinimumUnits, item.RetailPrice, item.UnitOfMeasure}
					if !slices.Contains(found[member], row) { // a meter may be there more than once, with another place for its name
						found[member] = append(found[member], row)
					}
					if len(found[member]) > maxPriceRows {
						return errRows
					}
					return nil
				})
			case "NextPageLink":
				var text *string
				if err := page.read(&text); err != nil {
					return err
				}
				if text != nil {
					link = *text
				}
				return nil
			}
			return page.skip()
		})
		_ = page.close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", azureRetailPrices, err)
		}
		if link == "" {
			return found, nil
		}
		// The link is untrusted: it must stay within the same API.
		before, _ := url.Parse(azureRetailPrices)
		u, err := url.Parse(link)
		if err != nil || u.Scheme != before.Scheme || strings.TrimSuffix(u.Host, ":443") != before.Host ||
			u.Path != before.Path {
			return nil, errors.New("the next page of the Azure Retail Prices is somewhere else")
		}
		next = link
	}
	return nil, fmt.Errorf("%s has more than %d pages", azureRetailPrices, maxPricePages)
}

// azureUnit reads how many units a unit of measure holds: 1 for "1 GB Second", 10 for "10". It
// returns 0 for any other unit.
func azureUnit(text, unit string) float64 {
	number, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	if !strings.EqualFold(strings.TrimSpace(rest), unit) {
		return 0
	}
	times := 1.0
	switch {
	case strings.HasSuffix(number, "K"):
		number, times = number[:len(number)-1], 1e3
	case strings.HasSuffix(number, "M"):
		number, times = number[:len(number)-1], 1e6
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n > 0 && n <= 1e9) {
		return 0
	}
	return n * times
}
